package vocustody.transfer_test

import data.vocustody.fixtures
import data.vocustody.transfer

look(row, asked, world) := found if {
	found := transfer.labels(row) with input as asked
		with data.vocustody.jurisdictions as world.jurisdictions
		with data.vocustody.notices as world.notices
		with data.vocustody.tenants as world.tenants
		with data.vocustody.ways as world.ways
}

labels(row, changes) := look(row, fixtures.asking(changes), fixtures.open_world)

world_with(changes) := object.union(object.remove(fixtures.open_world, object.keys(changes)), changes)

agreed := {"transfer_consent": fixtures.transfer_consent}

test_strongest_ground_first if {
	labels(fixtures.swiss, agreed) == ["adequacy:CH", "explicit-consent"]
	labels(fixtures.abroad, agreed) == ["scc:2", "explicit-consent"]
	labels(fixtures.abroad, {}) == ["scc:2"]
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

	look(fixtures.abroad, fixtures.asking(agreed), world) == ["scc:2"]
}

# The law that lets it go and the one that does not: it does not go.
test_each_law_must_let_it_go if {
	world := world_with({"ways": {"AT": {}, "DE": fixtures.open_ways}})
	both := world_with({"ways": {"AT": fixtures.open_ways, "DE": fixtures.open_ways}})
	asked := fixtures.asking({"jurisdiction": "AT+DE"})

	look(fixtures.swiss, asked, world) == []
	look(fixtures.swiss, asked, both)[0] == "adequacy:CH"
}

# Abroad under one law only: that law's ground is enough.
test_home_under_one_abroad_under_the_other if {
	laws := object.union(fixtures.open_world.jurisdictions, {"AT": {"regions": ["eu-central", "eu-zurich"]}})
	world := object.union(fixtures.open_world, {"jurisdictions": laws})

	look(fixtures.swiss, fixtures.asking({"jurisdiction": "AT+DE"}), world) == ["adequacy:CH"]
}

# The same ground, for the same data, under both.
test_another_laws_ground_is_its_own if {
	asked := fixtures.asking({"jurisdiction": "AT+DE"})
	way := {"classes": ["voice"], "expires": 9999999999, "ground": "scc", "label": "scc:2"}
	other := {"classes": ["redacted_text"], "expires": 9999999999, "ground": "adequacy", "label": "adequacy:CH"}
	germany := {"stt.swiss": [object.union(other, {"classes": ["voice"]})]}

	look(fixtures.swiss, asked, world_with({"ways": {"AT": {"stt.swiss": [way]}, "DE": germany}})) == []
	look(fixtures.swiss, asked, world_with({"ways": {"AT": {"stt.swiss": [other]}, "DE": germany}})) == []
}
