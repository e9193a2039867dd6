package vocustody.whose_law_test

import data.vocustody.fixtures
import data.vocustody.whose_law

jurisdictions := object.union(fixtures.jurisdictions, {
	"AT": object.union(fixtures.jurisdictions.AT, {"minor_consent": true, "withdrawal_erases": true}),
	"SG": object.union(fixtures.jurisdictions.SG, {"law": "B law", "localises": "Art. 1"}),
})

held(changes) := found if {
	found := whose_law.held with input as fixtures.asking(changes)
		with data.vocustody.jurisdictions as jurisdictions
		with data.vocustody.processors as fixtures.world.processors
		with data.vocustody.strictest as fixtures.world.strictest
		with data.vocustody.tenants as {"acme": {}, "tight": {
			"retention": {"raw_audio_seconds": 5},
			"redact": {"log": ["order"]},
		}}
}

part(name, changes) := held(changes).parts[name]

test_empty_input_holds_nothing if {
	not whose_law.held with input as {}
}

test_whose_law if {
	found := held({"jurisdiction": "AT+XX"})

	found.controller == {"DE": "A law"}
	found.person == {"AT": "A law", "XX": ""}
	found.unlisted == {"XX"}
	found.localising == {}
	held({"jurisdiction": "SG"}).localising == {"SG": "Art. 1"}
}

# The smallest number, and everybody who says it.
test_retention if {
	part("retention.raw_audio", {}) == {"by": {"DE"}, "value": 100}
	part("retention.raw_audio", {"jurisdiction": "AT"}) == {"by": {"AT"}, "value": 9}
	part("retention.redacted", {"jurisdiction": "AT"}) == {"by": {"AT", "DE"}, "value": 400}
	part("retention.reply_audio", {}) == {"by": {"DE"}, "value": 200}
	part("retention.transcript", {"jurisdiction": "AT"}) == {"by": {"DE"}, "value": 300}
	part("retention.raw_audio", {"jurisdiction": "XX"}) == {"by": {"strictest"}, "value": 9}
	part("retention.raw_audio", {"tenant": "tight"}) == {"by": {"tenant"}, "value": 5}
}

test_redaction if {
	part("redact.understand", {}) == {"by": {"DE"}, "value": {"card"}}
	part("redact.understand", {"jurisdiction": "AT"}) == {"by": {"AT", "DE"}, "value": {"card", "iban"}}
	part("redact.understand", {"jurisdiction": "XX"}) == {"by": {"DE", "strictest"}, "value": {"card", "iban"}}
	part("redact.log", {"tenant": "tight"}) == {"by": {"DE", "tenant"}, "value": {"order", "phone"}}
	part("redact.analytics", {}) == {"by": {"DE"}, "value": {"card", "phone"}}
}

test_rights if {
	part("consent.of_minors", {}) == {"by": {"DE"}, "value": false}
	part("consent.of_minors", {"controller": "AT", "jurisdiction": "AT"}) == {"by": {"AT"}, "value": true}
	part("consent.of_minors", {"controller": "XX", "jurisdiction": "AT"}).value == false
	part("withdrawal.erases", {}) == {"by": {"DE"}, "value": false}
	part("withdrawal.erases", {"jurisdiction": "AT"}) == {"by": {"AT"}, "value": true}
	part("withdrawal.erases", {"jurisdiction": "XX"}) == {"by": {"strictest"}, "value": true}
}

test_places if {
	part("places", {}) == {"by": {"DE"}, "value": {"eu-central", "eu-west"}}
	part("places", {"jurisdiction": "XX"}) == {"by": {"DE"}, "value": {"eu-central"}}
	part("places", {"jurisdiction": "SG"}) == {"by": {"DE", "SG"}, "value": set()}
}
