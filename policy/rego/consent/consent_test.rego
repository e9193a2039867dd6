package vocustody.consent_test

import data.vocustody.consent
import data.vocustody.fixtures

test_empty_input_has_no_live_consent if {
	not consent.live with input as {}
	consent.reasons == {"consent.missing", "purpose.unknown"} with input as {}
}

test_granted_is_live if {
	consent.live with input as fixtures.question with data.vocustody.notices as ["2026-11"]
	count(consent.reasons) == 0 with input as fixtures.question
		with data.vocustody.notices as ["2026-11"]
}

# A state that nobody defined is not a yes.
test_only_granted_is_live if {
	every state in ["none", "expired", "refused", "withdrawn", "requested"] {
		not consent.live with input as fixtures.agreeing({"state": state})
			with data.vocustody.notices as ["2026-11"]
	}
}

test_each_state_has_its_reason if {
	every state, code in {
		"none": "consent.missing",
		"expired": "consent.expired",
		"refused": "consent.refused",
		"withdrawn": "consent.withdrawn",
		"requested": "consent.missing",
	} {
		consent.reasons == {code} with input as fixtures.agreeing({"state": state})
			with data.vocustody.notices as ["2026-11"]
	}
}

test_renewed_is_live if {
	consent.live with input as fixtures.agreeing({"state": "renewed"})
		with data.vocustody.notices as ["2026-11"]
}

# The second at which it ends is already outside.
test_expired if {
	asked := fixtures.agreeing({"expires_at": fixtures.now})

	not consent.live with input as asked with data.vocustody.notices as ["2026-11"]
	consent.reasons == {"consent.expired"} with input as asked
		with data.vocustody.notices as ["2026-11"]
}

test_other_words if {
	not consent.live with input as fixtures.question with data.vocustody.notices as ["2025-01"]
	consent.reasons == {"notice.unknown"} with input as fixtures.question
		with data.vocustody.notices as ["2025-01"]
}

test_not_this_consent if {
	every changes in [
		{"purpose": "train_models"},
		{"tenant": "other"},
		{"at": fixtures.now + 1},
	] {
		not consent.live with input as fixtures.agreeing(changes)
			with data.vocustody.notices as ["2026-11"]
		consent.reasons == {"consent.missing"} with input as fixtures.agreeing(changes)
			with data.vocustody.notices as ["2026-11"]
	}
}

# A no to another tenant, or to another purpose, is not this person's answer here.
test_not_this_refusal if {
	every state in ["expired", "refused", "withdrawn"] {
		consent.reasons == {"consent.missing"} with input as fixtures.agreeing({"state": state, "tenant": "other"})
			with data.vocustody.notices as ["2026-11"]
	}
}

# Both the question and the consent name a purpose nobody is asked about.
test_unknown_purpose if {
	asked := fixtures.asking({"purpose": "train_models", "consent": {"purpose": "train_models"}})

	not consent.live with input as asked with data.vocustody.notices as ["2026-11"]
	consent.reasons == {"purpose.unknown"} with input as asked
		with data.vocustody.notices as ["2026-11"]
}

# Each purpose is asked about by itself: one yes is no other yes.
test_each_purpose_needs_its_own_grant if {
	every purpose in ["analytics", "human_review", "training", "transcribe_and_answer"] {
		given := fixtures.asking({"purpose": purpose, "consent": {"purpose": purpose}})
		consent.live with input as given with data.vocustody.notices as ["2026-11"]

		other := fixtures.asking({"purpose": purpose, "consent": {"purpose": "transfer_abroad"}})
		not consent.live with input as other with data.vocustody.notices as ["2026-11"]
	}
}

transfer(changes) := fixtures.asking({"transfer_consent": object.union(fixtures.transfer_consent, changes)})

test_transfer_consent_is_live if {
	consent.transfer_live with input as transfer({})
		with data.vocustody.notices as ["2026-11"]
}

test_transfer_consent_is_its_own if {
	every changes in [
		{"purpose": "transcribe_and_answer"},
		{"tenant": "other"},
		{"state": "withdrawn"},
		{"at": fixtures.now + 1},
		{"expires_at": fixtures.now},
		{"notice_version": "2025-01"},
	] {
		not consent.transfer_live with input as transfer(changes)
			with data.vocustody.notices as ["2026-11"]
	}
}

test_minor_cannot_consent_to_a_transfer if {
	asked := object.union(transfer({}), {"minor": true})

	not consent.transfer_live with input as asked
		with data.vocustody.notices as ["2026-11"]
		with data.vocustody.jurisdictions as fixtures.jurisdictions
}
