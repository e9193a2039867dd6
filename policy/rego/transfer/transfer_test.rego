package vocustody.transfer_test

import data.vocustody.fixtures
import data.vocustody.transfer

look(row, asked, world) := found if {
	found := [one.transfer | some one in transfer.labelled([row])] with input as asked
		with data.vocustody.grounds as world.grounds
		with data.vocustody.index as world.index
		with data.vocustody.jurisdictions as world.jurisdictions
		with data.vocustody.notices as world.notices
		with data.vocustody.tenants as world.tenants
		with data.vocustody.ways as world.ways
}

labels(row, changes) := look(row, fixtures.asking(changes), fixtures.open_world)

world_with(changes) := object.union(object.remove(fixtures.open_world, object.keys(changes)), changes)

agreed := {"transfer_consent": fixtures.transfer_consent}

test_strongest_ground_first if {
	labels(fixtures.swiss, agreed) == ["adequacy:CH"]
	labels(fixtures.abroad, agreed) == ["scc:2"]
	labels(fixtures.abroad, object.union(agreed, {"now": fixtures.now + 10})) == ["explicit-consent"]
	labels(fixtures.abroad, {"now": fixtures.now + 10}) == []
}

# Who is at home needs no ground, and has none.
test_home_has_no_label if {
	labels(fixtures.far, {}) == []
}

# A day-old bundle may name what a court has struck down since.
test_stale_bundle_sends_nothing_abroad if {
	labels(fixtures.swiss, {"bundle_age": 86400}) == ["adequacy:CH"]
	labels(fixtures.swiss, {"bundle_age": 86401}) == []
}

test_ground_is_for_its_class_of_data if {
	labels(fixtures.swiss, {"data_class": "redacted_text"}) == []
}

test_filed_tool_expires if {
	labels(fixtures.abroad, {"now": fixtures.now + 10}) == []
}

test_controller_refuses_a_ground if {
	world := world_with({"tenants": {"acme": {"refused_grounds": ["scc"]}}})

	look(fixtures.abroad, fixtures.question, world) == []
	look(fixtures.swiss, fixtures.question, world) == ["adequacy:CH"]
}

test_controller_refuses_to_ask_for_transfers if {
	world := world_with({"tenants": {"acme": {"refused_purposes": ["transfer_abroad"]}}})

	asked := fixtures.asking(object.union(agreed, {"now": fixtures.now + 10}))

	look(fixtures.abroad, fixtures.asking({}), world) == ["scc:2"]
	look(fixtures.abroad, asked, world) == []
	look(fixtures.abroad, asked, fixtures.open_world) == ["explicit-consent"]
}

# The law that lets it go and the one that does not: it does not go.
test_each_law_must_let_it_go if {
	world := world_with({"ways": {"AT": {}, "DE": fixtures.open_ways}})
	both := world_with({"ways": {"AT": fixtures.open_ways, "DE": fixtures.open_ways}})
	asked := fixtures.of_old({"jurisdiction": "AT+DE"})

	look(fixtures.swiss, asked, world) == []
	look(fixtures.swiss, fixtures.asking({"controller": "AT"}), world) == []
	look(fixtures.swiss, asked, both) == ["adequacy:CH"]
}

# Abroad under one law only: that law's ground is enough.
test_home_under_one_abroad_under_the_other if {
	laws := object.union(fixtures.open_world.jurisdictions, {"AT": {"regions": ["eu-central", "eu-zurich"]}})
	world := object.union(fixtures.open_world, {"jurisdictions": laws})

	look(fixtures.swiss, fixtures.of_old({"jurisdiction": "AT+DE"}), world) == ["adequacy:CH"]
}

# The same ground, for the same data, under both.
test_another_laws_ground_is_its_own if {
	asked := fixtures.of_old({"jurisdiction": "AT+DE"})
	scc := {"voice": {"stt.swiss": [fixtures.way("scc", "scc:2")]}}
	adequacy := [fixtures.way("adequacy", "adequacy:CH")]
	germany := {"voice": {"stt.swiss": adequacy}}

	look(fixtures.swiss, asked, world_with({"ways": {"AT": scc, "DE": germany}})) == []
	look(fixtures.swiss, asked, world_with({"ways": {"AT": {"redacted_text": {"stt.swiss": adequacy}}, "DE": germany}})) == []
}

# Open under both, but ended under one of them.
test_each_laws_way_is_still_open if {
	asked := fixtures.of_old({"jurisdiction": "AT+DE"})
	ended := object.union(fixtures.way("adequacy", "adequacy:CH"), {"expires": fixtures.now})
	ways := {"AT": {"voice": {"stt.swiss": [ended]}}, "DE": fixtures.open_ways}

	look(fixtures.swiss, asked, world_with({"ways": ways})) == []
}

test_no_ground_named_nothing_leaves if {
	look(fixtures.swiss, fixtures.question, world_with({"grounds": []})) == []
}
