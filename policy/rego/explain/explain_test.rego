package vocustody.explain_test

import data.vocustody.explain
import data.vocustody.fixtures
import data.vocustody.route

look(asked, world) := found if {
	found := explain.decision with input as asked
		with data.vocustody.grounds as world.grounds
		with data.vocustody.index as {}
		with data.vocustody.ways as {}
		with data.vocustody.jurisdictions as world.jurisdictions
		with data.vocustody.strictest as fixtures.world.strictest
		with data.vocustody.notices as world.notices
		with data.vocustody.processors as world.processors
		with data.vocustody.revision as world.revision
		with data.vocustody.tenants as world.tenants
}

rows(changes) := look(fixtures.asking(changes), fixtures.open_world).processors

world_with(changes) := object.union(object.remove(fixtures.open_world, object.keys(changes)), changes)

law_with(changes) := world_with({"jurisdictions": {"DE": object.union(object.remove(fixtures.open_law, object.keys(changes)), changes)}})

reasons(row, world) := look(fixtures.question, object.union(world, {"processors": [row]})).processors[row.id].reasons

not_chosen(codes) := {"ground": "", "rank": 0, "reasons": codes}

chosen(rank, ground) := {"ground": ground, "rank": rank, "reasons": set()}

test_empty_input_chooses_nobody if {
	count([row | some row in look({}, fixtures.open_world).processors; row.rank > 0]) == 0
}

# The index is empty here: what follows comes from the registry itself.
test_ranks_and_grounds if {
	rows({}) == {
		"msg.cell": not_chosen({"processor.stage"}),
		"stt.abroad": chosen(3, "scc:2"),
		"stt.far": chosen(1, "domestic"),
		"stt.near": chosen(2, "domestic"),
		"stt.swiss": chosen(4, "adequacy:CH"),
	}
}

test_revision_is_named if {
	look(fixtures.question, fixtures.open_world).revision == "r1"
}

test_what_speaks_against_the_question_speaks_against_each if {
	every row in rows({"held": true}) {
		row.rank == 0
		row.ground == ""
		"hold.active" in row.reasons
	}
}

test_unknown_law_speaks_against_each if {
	every row in rows({"controller": "XX"}) {
		"controller.law_missing" in row.reasons
	}
}

test_each_fault_has_its_code if {
	every case in [
		[{"contract_expires": fixtures.now}, "processor.contract_expired"],
		[{"review_expires": fixtures.now}, "processor.review_expired"],
		[{"languages": ["fr"]}, "processor.language"],
		[{"stages": ["speak"]}, "processor.stage"],
		[{"contract_expires": 0}, "processor.region"],
		[{"id": "stt.refused"}, "processor.refused_by_tenant"],
	] {
		world := world_with({"tenants": {"acme": {"refused": ["stt.refused"]}}})
		row := object.union(object.remove(fixtures.far, object.keys(case[0])), case[0])

		reasons(row, world) == {case[1]}
	}
	rows({"suspended": ["stt.far"]})["stt.far"] == not_chosen({"processor.suspended"})
	rows({"bundle_age": 86401})["stt.far"] == chosen(1, "domestic")
	"processor.stale_bundle" in rows({"bundle_age": 86401})["stt.swiss"].reasons
}

# A number's messages are kept in one region: another region's number is not a spare.
test_messaging_is_the_cells_own if {
	elsewhere := object.union(fixtures.cell, {"id": "msg.west", "region": "eu-west"})
	asked := fixtures.asking({"stage": "reply"})
	world := world_with({"processors": [elsewhere, fixtures.cell]})

	look(asked, world).processors == {
		"msg.cell": chosen(1, "domestic"),
		"msg.west": not_chosen({"processor.region"}),
	}
}

missing(row, world) if reasons(row, world) == {"processor.ground_missing"}

test_ground_must_be_named_admitted_and_real if {
	missing(fixtures.swiss, world_with({"grounds": ["scc"]}))
	missing(fixtures.swiss, law_with({"adequate": []}))
	missing(fixtures.swiss, law_with({"tools": {"voice": ["scc"]}}))
	missing(fixtures.swiss, law_with({"tools": {"redacted_text": ["adequacy"]}}))
	missing(fixtures.swiss, law_with({"barred": ["CH"]}))
	missing(fixtures.swiss, law_with({"transfers": "free"}))
	missing(fixtures.abroad, law_with({"law": "Another law"}))
	missing(object.union(fixtures.abroad, {"transfers": []}), fixtures.open_world)
	ended := [{"expires": fixtures.now, "law": "A law", "module": "2", "tool": "scc"}]
	missing(object.union(fixtures.abroad, {"transfers": ended}), fixtures.open_world)
	other := [{"expires": fixtures.now + 1, "law": "A law", "module": "", "tool": "bcr"}]
	missing(object.union(fixtures.abroad, {"transfers": other}), fixtures.open_world)
	elsewhere := object.union(fixtures.swiss, {"jurisdiction": "JP"})
	missing(elsewhere, fixtures.open_world)
}

test_other_grounds if {
	filed := [{"expires": fixtures.now + 1, "law": "A law", "module": "", "tool": "bcr"}]
	row := object.union(fixtures.abroad, {"transfers": filed})
	world := object.union(law_with({"tools": {"voice": ["bcr", "explicit-consent"]}}), {"processors": [row]})
	agreed := fixtures.asking({"transfer_consent": fixtures.transfer_consent})

	look(fixtures.question, world).processors["stt.abroad"] == chosen(1, "bcr")
	look(agreed, object.union(world, {"processors": [fixtures.swiss]})).processors["stt.swiss"] == chosen(1, "explicit-consent")
	missing(fixtures.swiss, world)
}

# Abroad under one law only: that law's ground is enough; without it, the other's home is not.
test_each_law_must_let_it_go if {
	both := fixtures.of_old({"jurisdiction": "AT+DE"})
	austria := object.union(fixtures.jurisdictions.AT, {"regions": ["eu-central", "eu-zurich"]})
	germany := fixtures.open_law
	open := world_with({"jurisdictions": {"AT": austria, "DE": germany}, "processors": [fixtures.swiss]})
	closed := world_with({"jurisdictions": {"AT": fixtures.jurisdictions.AT, "DE": germany}, "processors": [fixtures.swiss]})

	look(both, open).processors["stt.swiss"] == chosen(1, "adequacy:CH")
	look(both, closed).processors["stt.swiss"] == not_chosen({"processor.ground_missing"})
}

test_home_law_lends_no_ground if {
	both := fixtures.of_old({"jurisdiction": "AT+DE"})
	austria := object.union(fixtures.open_law, {"regions": ["eu-central", "eu-zurich"], "adequate": [], "tools": {"voice": ["explicit-consent", "scc"]}})
	filed := [{"expires": fixtures.now + 1, "law": "A law", "module": "9", "tool": "scc"}]
	germany := object.union(fixtures.open_law, {"law": "B law"})
	row := object.union(fixtures.swiss, {"transfers": array.concat(filed, [object.union(filed[0], {"law": "B law", "module": "2"})])})
	world := world_with({"grounds": ["scc"], "jurisdictions": {"AT": austria, "DE": germany}, "processors": [row]})

	look(both, world).processors["stt.swiss"] == chosen(1, "scc:2")
}

test_unheard_note_is_not_fetched if {
	fetch := {"stage": "capture", "languages": ["it"]}

	rows(fetch)["msg.cell"] == not_chosen({"processor.unheard"})
	rows({"stage": "capture"})["msg.cell"] == chosen(1, "domestic")
	rows({"stage": "reply", "languages": ["it"]})["msg.cell"] == chosen(1, "domestic")
}

# Of a country without a law in the table, nothing goes further than the cell's own region.
test_confined if {
	rows({"jurisdiction": "XX"})["stt.near"] == chosen(1, "domestic")
	rows({"jurisdiction": "XX"})["stt.far"] == not_chosen({"region.confined"})
}

test_whose_law_is_part_of_the_answer if {
	look(fixtures.asking({"jurisdiction": "XX"}), fixtures.open_world).law.unlisted == {"XX"}
}
