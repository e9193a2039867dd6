package vocustody.law_test

import data.vocustody.fixtures
import data.vocustody.law

look(changes) := found if {
	found := {"codes": law.codes, "known": law.known, "capable": law.capable} with input as fixtures.asking(changes)
		with data.vocustody.jurisdictions as laws
}

laws := object.union(fixtures.jurisdictions, {"AT": object.union(fixtures.jurisdictions.AT, {"minor_consent": true})})

test_empty_input_knows_nothing if {
	found := {"known": law.known, "capable": law.capable} with input as {}

	found == {"known": false, "capable": false}
}

test_candidates if {
	look({"jurisdiction": "AT+DE"}) == {"codes": ["AT", "DE"], "known": true, "capable": true}
	look({"jurisdiction": "DE+XX"}).known == false
}

# Every law in question has to say so; silence is no.
test_minors if {
	look({"minor": true}).capable == false
	look({"minor": true, "jurisdiction": "AT"}).capable
	look({"minor": true, "jurisdiction": "AT+DE"}).capable == false
	look({"minor": true, "jurisdiction": "XX"}).capable == false
	look({"minor": true, "jurisdiction": "AT+XX"}).capable == false
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
	domestic("eu-west", {"jurisdiction": "AT+DE"})
	not domestic("eu-west", {"jurisdiction": "DE+US"})
	domestic("eu-central", {"jurisdiction": "DE+US"})
}
