package vocustody.residency_test

import data.vocustody.fixtures
import data.vocustody.residency

look(asked, world) := found if {
	found := {
		"admitted": residency.admitted,
		"served": residency.served,
		"ids": [one.row.id | some one in residency.candidates],
		"reasons": residency.reasons,
	} with input as asked
		with data.vocustody.index as world.index
		with data.vocustody.grounds as world.grounds
		with data.vocustody.ways as world.ways
		with data.vocustody.jurisdictions as world.jurisdictions
		with data.vocustody.strictest as fixtures.world.strictest
		with data.vocustody.tenants as world.tenants
}

ids(changes) := look(fixtures.asking(changes), fixtures.world).ids

reasons(changes) := look(fixtures.asking(changes), fixtures.world).reasons

test_empty_input_finds_nobody if {
	look({}, fixtures.world) == {
		"admitted": false,
		"served": false,
		"ids": [],
		"reasons": {"controller.law_missing"},
	}
}

# Order is the registry's, which is the operator's preference.
test_candidates_in_data_order if {
	ids({}) == ["stt.far", "stt.near"]
	reasons({}) == set()
}

test_unknown_law_of_the_controller if {
	ids({"controller": "XX"}) == []
	reasons({"controller": "XX"}) == {"controller.law_missing"}
}

# A question from before there was a controller: each candidate's law has to be known.
test_half_known_law_of_old if {
	asked := fixtures.of_old({"jurisdiction": "DE+XX"})

	look(asked, fixtures.world).ids == []
	look(asked, fixtures.world).reasons == {"controller.law_missing"}
}

test_foreign_cell if {
	ids({"controller": "SG"}) == []
	reasons({"controller": "SG"}) == {"region.foreign"}
}

# Where the person is does not say where the controller's cell may stand.
test_people_of_other_laws_change_no_place if {
	every code in ["AT", "SG", "US", "AT+SG"] {
		ids({"jurisdiction": code}) == ["stt.far", "stt.near"]
		reasons({"jurisdiction": code}) == set()
	}
}

# Of a country without a law in the table, nothing goes further than the cell's own region.
test_no_law_of_theirs_stays_in_the_region if {
	every code in ["XX", "DE+XX"] {
		ids({"jurisdiction": code}) == ["stt.near"]
		look(fixtures.asking({"jurisdiction": code}), fixtures.open_world).ids == ["stt.near"]
	}
	ids({"jurisdiction": "XX", "suspended": ["stt.near"]}) == []
	ids({"jurisdiction": "XX", "languages": ["fr"]}) == []
}

localising := object.union(fixtures.world, {"jurisdictions": object.union(fixtures.jurisdictions, {
	"SG": object.union(fixtures.jurisdictions.SG, {"localises": "Art. 1"}),
	"AT": object.union(object.remove(fixtures.jurisdictions.AT, ["regions"]), {
		"localises": "Art. 1",
		"regions": ["eu-central"],
	}),
})})

in_localising(changes) := look(fixtures.asking(changes), localising)

# A law that keeps data in the country is one that says where.
test_localising_law_narrows if {
	in_localising({"jurisdiction": "SG"}).ids == []
	in_localising({"jurisdiction": "SG"}).reasons == {"law.localises"}
	in_localising({"jurisdiction": "AT+DE"}).ids == ["stt.far", "stt.near"]
	in_localising({"jurisdiction": "SG", "stage": "notice"}).ids == ["msg.cell"]
	in_localising({"controller": "SG", "jurisdiction": "SG", "region": "eu-west"}).reasons == {"region.foreign"}
}

# Of old, what was allowed was allowed by every candidate, not by the first one.
test_candidate_jurisdictions_all_count_of_old if {
	look(fixtures.of_old({"jurisdiction": "AT+DE"}), fixtures.world).ids == ["stt.far", "stt.near"]
	look(fixtures.of_old({"jurisdiction": "DE+US"}), fixtures.world).ids == ["stt.near"]
	look(fixtures.of_old({"jurisdiction": "DE+SG"}), fixtures.world).reasons == {"region.foreign"}
}

# Free transfers let the cell stand abroad; they do not send the data on from there.
test_free_transfers_stay_in_the_cell if {
	ids({"controller": "US"}) == ["stt.near"]
	ids({"controller": "US", "region": "us-east"}) == ["stt.abroad"]
}

# The second at which a contract ends is already outside.
test_contract_expired if {
	ids({"now": fixtures.now + fixtures.day}) == ["stt.near"]
}

# Without a contract it runs inside the cell; from another region it cannot.
test_no_contract_only_in_the_cell if {
	later := {"region": "eu-west", "now": fixtures.now + fixtures.day}

	ids(later) == []
	reasons(later) == {"processor.none"}
}

test_language_not_spoken if {
	ids({"languages": ["fr"]}) == ["stt.far"]
	ids({"languages": ["it"]}) == []
	reasons({"languages": ["it"]}) == {"processor.none"}
}

test_controller_objects if {
	tenants := {"acme": {"refused": ["stt.far"]}}
	world := object.union(fixtures.world, {"tenants": tenants})

	look(fixtures.question, world).ids == ["stt.near"]
}

# A number's messages are kept in one region: another region's number is not a spare.
test_messaging_is_the_cells_own if {
	ids({"stage": "reply"}) == ["msg.cell"]
	ids({"stage": "reply", "region": "eu-west"}) == []
}

test_stage_without_processors if {
	reasons({"stage": "speak"}) == {"processor.none"}
}

# A note that nobody can hear is not fetched.
test_capture_needs_a_transcriber if {
	reasons({"stage": "capture"}) == set()
	reasons({"stage": "capture", "languages": ["it"]}) == {"processor.none"}
}

# A text may be answered in a language that nobody can transcribe.
test_reply_needs_no_transcriber if {
	reasons({"stage": "reply", "languages": ["it"]}) == set()
}

test_capture_needs_a_number if {
	reasons({"stage": "capture", "region": "eu-west"}) == {"processor.none"}
}

# Somebody who knew this processor has to have looked at it lately.
test_review_expired if {
	stale := [object.union(row, ended) |
		some row in fixtures.world.index.rows
		ended := {true: {"until": fixtures.now}, false: {}}[row.id == "stt.far"]
	]

	look(fixtures.question, indexed({"rows": stale})).ids == ["stt.near"]
}

indexed(changes) := object.union(
	object.remove(fixtures.world, ["index"]),
	{"index": object.union(object.remove(fixtures.world.index, object.keys(changes)), changes)},
)

# A law that the index does not know lets nobody serve, though another law would.
test_each_law_is_in_the_index if {
	world := indexed({"kin": {"DE": "DE"}})

	look(fixtures.of_old({"jurisdiction": "DE+AT"}), world).ids == []
	look(fixtures.question, world).ids == ["stt.far", "stt.near"]
}

# Who is abroad under one law needs a way there under it, though at home under the other.
test_within_reach_of_each_law if {
	shelves := {"AT": fixtures.open_world.index.shelves.AT, "DE": {"eu-central": {"transcribe": {
		"abroad": {"de": [1]},
		"home": {"de": [4], "fr": [2]},
	}}}}
	index := object.union(object.remove(fixtures.open_world.index, ["shelves"]), {"shelves": shelves})
	world := object.union(object.remove(fixtures.open_world, ["index", "ways"]), {
		"index": index,
		"ways": {"AT": fixtures.open_ways, "DE": fixtures.open_ways},
	})

	look(fixtures.of_old({"jurisdiction": "DE+AT"}), world).ids == ["stt.near", "stt.abroad"]
	look(fixtures.of_old({"jurisdiction": "AT+DE"}), world).ids == ["stt.near", "stt.abroad"]
}

# The shelf is full, but the cell must not stand here.
test_the_index_admits_no_cell if {
	look(fixtures.asking({"controller": "SG"}), fixtures.world).ids == []
}

test_suspended if {
	ids({"suspended": ["stt.far", "stt.other"]}) == ["stt.near"]
}

# Not knowing who is suspended is not the same as nobody being suspended.
test_unknown_suspensions_serve_nobody if {
	asked := object.remove(fixtures.question, ["suspended"])

	look(asked, fixtures.world).ids == []
}

# At home first, whatever the registry's order; then abroad, in its order.
test_abroad_comes_last if {
	look(fixtures.question, fixtures.open_world).ids == ["stt.far", "stt.near", "stt.abroad", "stt.swiss"]
}

# A way in the data is none if the deployment names no ground.
test_no_ground_named_nothing_leaves if {
	world := object.union(fixtures.open_world, {"grounds": []})

	look(fixtures.question, world).ids == ["stt.far", "stt.near"]
}
