package vocustody.law_test

import data.vocustody.fixtures
import data.vocustody.law

look(changes) := look_at(fixtures.asking(changes))

look_at(asked) := found if {
	found := {
		"capable": law.capable,
		"codes": law.codes,
		"known": law.known,
		"localising": law.localising,
		"places": law.places,
		"unlisted": law.unlisted,
	} with input as asked
		with data.vocustody.jurisdictions as laws
		with data.vocustody.strictest as fixtures.world.strictest
}

laws := object.union(fixtures.jurisdictions, {
	"AT": object.union(fixtures.jurisdictions.AT, {"minor_consent": true}),
	"SG": object.union(fixtures.jurisdictions.SG, {"law": "B law", "localises": "Art. 1", "minor_consent": true}),
})

test_empty_input_knows_nothing if {
	found := {"known": law.known, "capable": law.capable} with input as {}

	found == {"known": false, "capable": false}
}

# Nobody's law is not the controller's alone.
test_no_person_is_no_known_law if {
	look_at(object.remove(fixtures.question, ["jurisdiction"])).known == false
}

test_both_laws_count if {
	look({"jurisdiction": "AT"}).codes == {"AT", "DE"}
	look({"jurisdiction": "AT+DE"}).codes == {"AT", "DE"}
	look({"jurisdiction": "AT"}).known
}

# A country that the table does not have is served: the strictest stands in, if there is one.
test_unlisted if {
	look({"jurisdiction": "DE+XX"}).unlisted == {"XX"}
	look({"jurisdiction": "DE+XX"}).known
	look({"jurisdiction": "AT"}).unlisted == set()
	look({"controller": "XX"}).known == false
	known := law.known with input as fixtures.asking({"jurisdiction": "XX"})
		with data.vocustody.jurisdictions as laws

	known == false
}

test_laws_of_both_and_the_strictest if {
	found := law.laws with input as fixtures.asking({"jurisdiction": "AT+XX"})
		with data.vocustody.jurisdictions as laws
		with data.vocustody.strictest as "strictest"

	{rule | some rule in found} == {laws.AT, laws.DE, "strictest"}
	count(found) == 3
	alone := law.laws with input as fixtures.asking({"jurisdiction": "AT"})
		with data.vocustody.jurisdictions as laws
		with data.vocustody.strictest as "strictest"

	{rule | some rule in alone} == {laws.AT, laws.DE}
}

# As before there was a controller: the person's law was all there was.
test_of_old if {
	look_at(fixtures.of_old({"jurisdiction": "AT+SG"})).places == ["AT", "SG"]
	look_at(fixtures.of_old({"jurisdiction": "AT+SG"})).codes == {"AT", "SG"}
	look_at(fixtures.of_old({"jurisdiction": "AT+XX"})).known == false
}

test_places_are_the_controllers_unless_a_law_localises if {
	look({"jurisdiction": "AT"}).places == ["DE"]
	look({"jurisdiction": "AT+SG"}).places == ["DE", "SG"]
	look({"jurisdiction": "AT+SG"}).localising == ["SG"]
	look({"jurisdiction": "SG", "controller": "SG"}).localising == []
	look({"jurisdiction": "SG", "stage": "notice"}).places == ["DE"]
	look({"jurisdiction": "XX"}).places == ["DE"]
}

related(changes) if {
	law.related with input as fixtures.asking(changes)
		with data.vocustody.jurisdictions as laws
}

# France and Germany have one law between them.
test_related if {
	related({})
	related({"jurisdiction": "AT"})
	not related({"jurisdiction": "SG"})
	not related({"jurisdiction": "AT+SG"})
	not related({"jurisdiction": "XX"})
	not related({"jurisdiction": "XX", "controller": "XX"})
}

# Every law in question has to say so; silence is no.
test_minors if {
	look({"minor": true}).capable == false
	look({"minor": true, "jurisdiction": "AT", "controller": "AT"}).capable
	look({"minor": true, "jurisdiction": "AT"}).capable == false
	look({"minor": true, "jurisdiction": "AT", "controller": "SG"}).capable
	look({"minor": true, "jurisdiction": "XX", "controller": "AT"}).capable == false
	look({"minor": true, "jurisdiction": "AT+XX", "controller": "AT"}).capable == false
}

test_unknown_law_lets_no_minor_agree if {
	capable := law.capable with input as fixtures.asking({"minor": true, "controller": "XX", "jurisdiction": "AT"})
		with data.vocustody.jurisdictions as laws

	capable == false
}

test_within if {
	every region in ["eu-central", "eu-west"] {
		law.within(region) with input as fixtures.asking({"jurisdiction": "AT"})
			with data.vocustody.jurisdictions as laws
	}
	law.within("eu-central") with input as fixtures.asking({"jurisdiction": "XX"})
		with data.vocustody.jurisdictions as laws
	far := law.within("eu-west") with input as fixtures.asking({"jurisdiction": "XX"})
		with data.vocustody.jurisdictions as laws

	far == false
}

home(region, code, changes) if {
	rule := laws[code]
	law.home(region, rule) with input as fixtures.asking(changes)
		with data.vocustody.jurisdictions as laws
}

test_home if {
	home("eu-west", "DE", {})
	not home("us-east", "DE", {})
	not home("eu-west", "DE", {"region": "us-east"})
	home("eu-central", "US", {})
	not home("us-east", "US", {})
	not home("us-east", "DE", {"region": "us-east"})
}

domestic(region, changes) if {
	law.domestic(region) with input as fixtures.asking(changes)
		with data.vocustody.jurisdictions as laws
}

test_domestic_is_at_home_under_each_law if {
	domestic("eu-west", {"jurisdiction": "SG+US", "stage": "notice"})
	not domestic("eu-west", {"jurisdiction": "SG"})
	domestic("eu-central", {"controller": "US"})
	not domestic("eu-west", {"controller": "US"})
	not domestic("eu-central", {"controller": "XX"})
}
