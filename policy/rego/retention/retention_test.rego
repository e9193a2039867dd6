package vocustody.retention_test

import data.vocustody.fixtures
import data.vocustody.retention

with_tenant(overlay) := object.union(fixtures.world, {"tenants": {"acme": overlay}})

clocks(asked, world) := found if {
	found := {"seconds": retention.seconds, "complete": retention.complete} with input as asked
		with data.vocustody.jurisdictions as world.jurisdictions
		with data.vocustody.tenants as world.tenants
}

test_empty_input_has_no_clock if {
	clocks({}, fixtures.world) == {"seconds": {}, "complete": false}
}

test_the_law_sets_the_ceiling if {
	clocks(fixtures.question, fixtures.world) == {"seconds": fixtures.clocks, "complete": true}
}

test_tenant_can_tighten if {
	found := clocks(fixtures.question, with_tenant({"retention": {"raw_audio_seconds": 7}}))

	found.seconds == object.union(fixtures.clocks, {"raw_audio_seconds": 7})
}

test_tenant_cannot_loosen if {
	found := clocks(fixtures.question, with_tenant({"retention": {"raw_audio_seconds": 5000}}))

	found.seconds == fixtures.clocks
}

# 9 is less than 100 only if numbers are compared as numbers.
test_strictest_jurisdiction_counts if {
	found := clocks(fixtures.asking({"jurisdiction": "AT+DE"}), fixtures.world)

	found.seconds == object.union(fixtures.clocks, {"raw_audio_seconds": 9})
}

# A tenant's number does not stand in for the law's.
test_missing_clock_is_incomplete if {
	law := {"retention": object.remove(fixtures.clocks, ["raw_audio_seconds"])}
	tenants := {"acme": {"retention": {"raw_audio_seconds": 7}}}

	clocks(fixtures.question, {"jurisdictions": {"DE": law}, "tenants": tenants}).complete == false
}
