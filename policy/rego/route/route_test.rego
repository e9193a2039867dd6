package vocustody.route_test

import data.vocustody.fixtures
import data.vocustody.route

decide(asked) := decide_in(asked, fixtures.world)

decide_in(asked, world) := decision if {
	decision := route.decision with input as asked
		with data.vocustody.index as world.index
		with data.vocustody.grounds as world.grounds
		with data.vocustody.ways as world.ways
		with data.vocustody.jurisdictions as world.jurisdictions
		with data.vocustody.strictest as fixtures.world.strictest
		with data.vocustody.notices as world.notices
		with data.vocustody.revision as world.revision
		with data.vocustody.tenants as world.tenants
}

# The facts alone, as if no reason had been given against it.
allowed_without_reasons(asked, world) := allow if {
	allow := route.allow with input as asked
		with data.vocustody.index as world.index
		with data.vocustody.grounds as world.grounds
		with data.vocustody.ways as world.ways
		with data.vocustody.jurisdictions as world.jurisdictions
		with data.vocustody.strictest as fixtures.world.strictest
		with data.vocustody.notices as world.notices
		with data.vocustody.tenants as world.tenants
		with data.vocustody.route.reasons as set()
}

nothing := {
	"egress": {},
	"options": {},
	"raw_audio_seconds": 0,
	"redact": {},
	"redacted_seconds": 0,
	"reply_audio_seconds": 0,
	"transcript_seconds": 0,
	"transfers": {},
}

denied(asked, reasons) if {
	decide(asked) == {
		"allow": false,
		"obligations": nothing,
		"processors": [],
		"reasons": reasons,
		"revision": "r1",
	}
}

test_empty_input_is_denied if {
	denied({}, {
		"consent.missing",
		"controller.law_missing",
		"data_class.unexpected",
		"hold.active",
		"minor.protected",
		"person.declined",
		"purpose.refused",
		"purpose.unknown",
		"stage.unknown",
		"tenant.unknown",
	})
}

test_allowed if {
	decide(fixtures.question) == {
		"allow": true,
		"obligations": {
			"egress": {"stt.far": ["stt.far.example:443"], "stt.near": []},
			"options": {"stt.far": {"opt_out": "true"}, "stt.near": {}},
			"raw_audio_seconds": 100,
			"redact": {
				"analytics": {"card", "phone"},
				"log": {"phone"},
				"understand": {"card"},
			},
			"redacted_seconds": 400,
			"reply_audio_seconds": 200,
			"transcript_seconds": 300,
			"transfers": {"stt.far": "domestic", "stt.near": "domestic"},
		},
		"processors": ["stt.far", "stt.near"],
		"reasons": set(),
		"revision": "r1",
	}
}

test_each_step_needs_consent if {
	every stage in ["capture", "reply", "transcribe"] {
		denied(
			fixtures.asking({"stage": stage, "consent": {"state": "withdrawn"}}),
			{"consent.withdrawn"},
		)
	}
}

# Asking for consent cannot need consent.
test_notice_needs_none if {
	decide(fixtures.asking({"stage": "notice", "consent": {"state": "none"}})).allow
}

test_notice_still_needs_a_known_law if {
	denied(fixtures.asking({"stage": "notice", "controller": "XX"}), {"controller.law_missing"})
}

test_hold_stops_everything_but_notices if {
	every stage in ["capture", "reply", "transcribe"] {
		denied(fixtures.asking({"stage": stage, "held": true}), {"hold.active"})
	}
	decide(fixtures.asking({"stage": "notice", "held": true})).allow
}

test_minors_own_consent_does_not_count if {
	every stage in ["capture", "reply", "transcribe"] {
		denied(fixtures.asking({"stage": stage, "minor": true}), {"minor.protected"})
	}
	decide(fixtures.asking({"stage": "notice", "minor": true})).allow
	decide(fixtures.asking({"stage": "reply", "minor": true, "purpose": "answer_typed"})).allow
}

test_fixture_hands_over_what_the_rule_says if {
	fixtures.class_of == route.handed
}

# A recording does not travel as a text, nor a text as words of ours.
test_data_class_is_the_steps_own if {
	denied(fixtures.asking({"data_class": "message"}), {"data_class.unexpected"})
	denied(fixtures.asking({"stage": "notice", "data_class": "voice"}), {"data_class.unexpected"})
}

test_controller_refuses_a_purpose if {
	tenants := {"acme": {"refused_purposes": ["transcribe_and_answer"]}}
	world := object.union(fixtures.world, {"tenants": tenants})

	decide_in(fixtures.question, world).reasons == {"purpose.refused"}
	not allowed_without_reasons(fixtures.question, world)
}

# Where it may be dialled, and why data may go there, is part of the answer.
test_obligations_abroad if {
	found := decide_in(fixtures.question, fixtures.open_world)

	found.obligations.transfers == {
		"stt.abroad": "scc:2",
		"stt.far": "domestic",
		"stt.near": "domestic",
		"stt.swiss": "adequacy:CH",
	}
	found.obligations.egress["stt.abroad"] == ["stt.abroad.example:443"]
}

test_unknown_tenant if {
	denied(fixtures.agreeing_as("nobody"), {"tenant.unknown"})
}

test_unknown_stage if {
	denied(fixtures.asking({"stage": "train"}), {"data_class.unexpected", "processor.none", "stage.unknown"})
}

test_no_processor if {
	denied(fixtures.asking({"languages": ["it"]}), {"processor.none"})
}

# The law of SG as it would be for these cells, without *missing*.
replace_sg(missing) := world if {
	placed := object.union(fixtures.jurisdictions.SG, {"regions": ["eu-central", "eu-west"]})
	laws := {"SG": object.remove(placed, missing)}
	world := object.union(object.remove(fixtures.world, ["jurisdictions"]), {"jurisdictions": laws})
}

in_sg := fixtures.asking({"controller": "SG", "jurisdiction": "SG"})

test_incomplete_law if {
	decide_in(in_sg, replace_sg(["redact"])).reasons == {"redaction.incomplete"}
	decide_in(in_sg, replace_sg(["retention"])).reasons == {"retention.incomplete"}
}

# Reasons explain; they do not decide. Each fact is demanded even if no reason was given.
test_no_reason_is_not_a_yes if {
	allowed_without_reasons(fixtures.question, fixtures.world)
	every changes in [
		{"consent": {"state": "none"}},
		{"held": true},
		{"minor": true},
		{"data_class": "message"},
		{"languages": ["it"]},
		{"controller": "SG"},
		{"tenant": "nobody", "consent": {"tenant": "nobody"}},
	] {
		not allowed_without_reasons(fixtures.asking(changes), fixtures.world)
	}
}

test_unknown_stage_is_not_a_yes if {
	shelf := {"train": fixtures.near_shelves["eu-central"].transcribe}
	world := object.union(fixtures.world, {"index": {"shelves": {"DE": {"eu-central": shelf}}}})

	not allowed_without_reasons(fixtures.asking({"stage": "train"}), world)
}

test_incomplete_law_is_not_a_yes if {
	allowed_without_reasons(in_sg, replace_sg([]))
	not allowed_without_reasons(in_sg, replace_sg(["redact"]))
	not allowed_without_reasons(in_sg, replace_sg(["retention"]))
}

test_foreign_cell_is_not_a_yes if {
	allow := route.allow with input as fixtures.question
		with data.vocustody.index as fixtures.world.index
		with data.vocustody.grounds as fixtures.world.grounds
		with data.vocustody.jurisdictions as fixtures.world.jurisdictions
		with data.vocustody.notices as fixtures.world.notices
		with data.vocustody.tenants as fixtures.world.tenants
		with data.vocustody.residency.admitted as false
		with data.vocustody.route.reasons as set()

	not allow
}

# And one reason against it is enough.
test_any_reason_denies if {
	allow := route.allow with input as fixtures.question
		with data.vocustody.index as fixtures.world.index
		with data.vocustody.grounds as fixtures.world.grounds
		with data.vocustody.jurisdictions as fixtures.world.jurisdictions
		with data.vocustody.notices as fixtures.world.notices
		with data.vocustody.tenants as fixtures.world.tenants
		with data.vocustody.route.reasons as {"some.code"}

	not allow
}

# An answer of no revision is no answer: the caller treats it as undecided.
test_no_revision_is_undefined if {
	not route.decision with input as fixtures.question
		with data.vocustody.index as fixtures.world.index
}

# The person asked in writing: answering is what they asked for.
test_typed_words_need_no_consent if {
	asked := {"purpose": "answer_typed", "stage": "reply", "consent": {"state": "none"}}
	decide(fixtures.asking(asked)).allow
}

test_typed_words_after_a_withdrawal_are_answered if {
	asked := {"purpose": "answer_typed", "stage": "reply", "consent": {"state": "withdrawn"}}
	decide(fixtures.asking(asked)).allow
}

# Calling it typed opens no recording.
test_typed_is_for_words_only if {
	every stage in ["capture", "transcribe"] {
		asked := {"purpose": "answer_typed", "stage": stage, "consent": {"state": "none"}}
		denied(fixtures.asking(asked), {"consent.missing", "purpose.unknown"})
	}
}

# What a person sends to the controller's own cell is no transfer: the cell stands where it may.
test_people_of_other_laws_are_served if {
	every code in ["AT", "SG", "US", "XX"] {
		decide(fixtures.asking({"jurisdiction": code})).allow
	}
}

test_the_stricter_of_each_law if {
	found := decide(fixtures.asking({"jurisdiction": "AT"})).obligations

	found.raw_audio_seconds == 9
	found.transcript_seconds == 300
	found.redact.understand == {"card", "iban"}
}

test_no_law_of_theirs_is_the_strictest_in_the_cells_region if {
	found := decide(fixtures.asking({"jurisdiction": "XX"}))

	found.processors == ["stt.near"]
	found.obligations.raw_audio_seconds == 9
	found.obligations.redact.understand == {"card", "iban"}
}

declining := object.union(fixtures.world, {
	"jurisdictions": object.union(fixtures.jurisdictions, {"SG": {"law": "B law"}}),
	"tenants": {"acme": {"abroad": "decline"}},
})

test_controller_declines_people_of_other_laws if {
	every code in ["SG", "XX", "DE+XX"] {
		asked := fixtures.asking({"jurisdiction": code})
		decide_in(asked, declining).reasons == {"person.declined"}
	}
	decide_in(fixtures.asking({"jurisdiction": "AT"}), declining).allow
	decide_in(fixtures.asking({"jurisdiction": "SG", "stage": "notice"}), declining).allow
	decide_in(fixtures.of_old({}), declining).allow
}

test_declined_is_not_a_yes if {
	not allowed_without_reasons(fixtures.asking({"jurisdiction": "XX"}), declining)
}
