package vocustody.redaction_test

import data.vocustody.fixtures
import data.vocustody.redaction

look(asked, laws, tenants) := found if {
	found := {"classes": redaction.classes, "complete": redaction.complete} with input as asked
		with data.vocustody.jurisdictions as laws
		with data.vocustody.tenants as tenants
}

test_empty_input_is_incomplete if {
	look({}, fixtures.jurisdictions, {}).complete == false
}

test_classes_of_the_law if {
	look(fixtures.question, fixtures.jurisdictions, {}) == {
		"classes": {
			"analytics": {"card", "phone"},
			"log": {"phone"},
			"understand": {"card"},
		},
		"complete": true,
	}
}

# A person who may be under two laws is protected by both.
test_classes_of_all_candidates if {
	found := look(fixtures.asking({"jurisdiction": "AT+DE"}), fixtures.jurisdictions, {})

	found.classes.understand == {"card", "iban"}
}

test_tenant_can_only_add if {
	overlay := {"acme": {"redact": {"log": ["card"], "understand": []}}}

	look(fixtures.question, fixtures.jurisdictions, overlay).classes == {
		"analytics": {"card", "phone"},
		"log": {"card", "phone"},
		"understand": {"card"},
	}
}

# A tenant's list does not stand in for the law's.
test_sink_without_classes_is_incomplete if {
	law := {"redact": {"analytics": ["card"], "log": ["card"], "understand": []}}
	overlay := {"acme": {"redact": {"understand": ["card"]}}}

	look(fixtures.question, {"DE": law}, overlay).complete == false
}
