package vocustody.access_test

import data.vocustody.access
import data.vocustody.fixtures

request := {
	"action": "read_transcript",
	"actor": "u_1",
	"approvals": [],
	"consent": {"state": "none"},
	"minor": false,
	"now": fixtures.now,
	"object": "a_1",
	"owner": "acme",
	"purpose": "service",
	"request_digest": "d1",
	"role": "agent",
	"tenant": "acme",
}

approval(who) := {
	"approver": who,
	"at": fixtures.now - 10,
	"request_digest": "d1",
	"role": "approver",
	"tenant": "acme",
}

wanting(changes) := object.union(object.remove(request, object.keys(changes)), changes)

look(asked) := found if {
	found := access.decision with input as asked
		with data.vocustody.notices as ["2026-11"]
		with data.vocustody.revision as "r1"
}

allowed(changes) if look(wanting(changes)).allow

denied(changes, codes) if {
	found := look(wanting(changes))
	found.allow == false
	found.reasons == codes
}

# The facts alone, as if no reason had been given against it.
allowed_without_reasons(changes) if {
	allow := access.allow with input as wanting(changes)
		with data.vocustody.notices as ["2026-11"]
		with data.vocustody.access.reasons as set()
	allow
}

test_empty_input_is_denied if {
	found := look({})

	found.allow == false
	found.reasons == {"role.forbidden", "tenant.foreign", "approval.missing"}
}

test_allowed if {
	look(request) == {"allow": true, "approvers": set(), "reasons": set(), "revision": "r1"}
}

test_roles if {
	allowed({"role": "dpo", "action": "open_held"})
	allowed({"role": "auditor", "action": "read_audit"})
	allowed({"role": "tenant_admin", "action": "erase"})
	denied({"role": "agent", "action": "erase"}, {"role.forbidden"})
	denied({"role": "nobody"}, {"role.forbidden"})
	denied({"action": "delete_everything"}, {"role.forbidden"})
}

# Who runs the cell does not read in it, and who checks the proofs does not read what they prove.
test_operators_and_auditors_read_no_content if {
	every role in ["operator", "auditor", "approver", "worker", "tenant_admin"] {
		every action in ["play_audio", "read_transcript", "export"] {
			not allowed({"role": role, "action": action, "approvals": [approval("u_2"), approval("u_3")]})
		}
	}
}

test_another_tenants if {
	denied({"owner": "other"}, {"tenant.foreign"})
}

export := {"role": "exporter", "action": "export", "purpose": "rights"}

exporting(approvals) := object.union(export, {"approvals": approvals})

test_two_persons if {
	allowed(exporting([approval("u_2"), approval("u_3")]))
	look(wanting(exporting([approval("u_2"), approval("u_3")]))).approvers == {"u_2", "u_3"}
	denied(export, {"approval.missing"})
	denied(exporting([approval("u_2")]), {"approval.missing"})
	denied(exporting([approval("u_2"), approval("u_2")]), {"approval.missing"})
}

test_an_approval_that_does_not_count if {
	every changes in [
		{"approver": "u_1"},
		{"role": "dpo"},
		{"tenant": "other"},
		{"request_digest": "d2"},
		{"at": fixtures.now + 1},
		{"at": fixtures.now - 86400},
	] {
		other := object.union(approval("u_3"), changes)
		denied(exporting([approval("u_2"), other]), {"approval.missing"})
	}
}

test_weighty_actions_need_two_others if {
	activating := {"role": "operator", "action": "activate_bundle"}

	denied(activating, {"approval.missing"})
	denied(object.union(activating, {"approvals": [approval("u_2")]}), {"approval.missing"})
	allowed(object.union(activating, {"approvals": [approval("u_2"), approval("u_3")]}))
}

# Whoever proposes a hold, or its end, is the first of the two.
test_holds_need_one_other_person if {
	every case in [["dpo", "place_hold"], ["tenant_admin", "place_hold"], ["dpo", "release_hold"]] {
		asked := {"role": case[0], "action": case[1]}
		denied(asked, {"approval.missing"})
		denied(object.union(asked, {"approvals": [approval("u_1")]}), {"approval.missing"})
		allowed(object.union(asked, {"approvals": [approval("u_2")]}))
	}
}

test_only_a_dpo_ends_a_hold_or_opens_what_it_keeps if {
	every action in ["open_held", "release_hold"] {
		every role in ["agent", "approver", "auditor", "exporter", "operator", "tenant_admin", "worker"] {
			not allowed({"role": role, "action": action, "approvals": [approval("u_2")]})
		}
	}
}

test_unknown_purpose if {
	denied({"purpose": "curiosity"}, {"purpose.unknown"})
	allowed({"purpose": "rights"})
	allowed({"purpose": "curiosity", "action": "read_audit", "role": "dpo"})
}

agreed(purpose) := {"purpose": purpose, "consent": object.union(fixtures.consent, {"purpose": purpose})}

# Quality review, analytics and training each need the person's own yes.
test_reading_beyond_the_service_needs_consent if {
	every purpose in ["analytics", "human_review", "training"] {
		denied({"purpose": purpose}, {"consent.missing"})
		allowed(agreed(purpose))
		denied(object.union(agreed(purpose), {"minor": true}), {"consent.missing"})
		denied(object.union(agreed("transcribe_and_answer"), {"purpose": purpose}), {"consent.missing"})
	}
}

test_no_reason_is_not_a_yes if {
	allowed_without_reasons({})
	every changes in [
		{"role": "operator"},
		{"owner": "other"},
		export,
		{"purpose": "curiosity"},
		{"purpose": "training"},
		agreed("transcribe_and_answer"),
	] {
		not allowed_without_reasons(changes)
	}
}

# And one reason against it is enough.
test_any_reason_denies if {
	allow := access.allow with input as request
		with data.vocustody.access.reasons as {"some.code"}

	not allow
}
