package vocustody.fixtures

# A world in which everything is in order: each test breaks one thing.
now := 1795348800

day := 86400

consent := {
	"id": "c_1",
	"purpose": "transcribe_and_answer",
	"tenant": "acme",
	"state": "granted",
	"at": now - day,
	"expires_at": now + day,
	"notice_version": "2026-11",
	"notice_sha256": "00",
}

transfer_consent := object.union(consent, {"id": "c_2", "purpose": "transfer_abroad"})

question := {
	"bundle_age": 0,
	"consent": consent,
	"controller": "DE",
	"data_class": "voice",
	"held": false,
	"jurisdiction": "DE",
	"languages": ["de", "en"],
	"minor": false,
	"now": now,
	"purpose": "transcribe_and_answer",
	"region": "eu-central",
	"stage": "transcribe",
	"suspended": [],
	"tenant": "acme",
	"transfer_consent": {"state": "none", "purpose": "", "tenant": ""},
}

# What each step hands over, as route.handed says; a test holds the two together.
class_of := {
	"capture": "voice",
	"notice": "message",
	"reply": "reply_text",
	"speak": "reply_text",
	"transcribe": "voice",
	"understand": "redacted_text",
}

clocks := {
	"raw_audio_seconds": 100,
	"redacted_seconds": 400,
	"reply_audio_seconds": 200,
	"transcript_seconds": 300,
}

redact := {
	"analytics": ["card", "phone"],
	"log": ["phone"],
	"understand": ["card"],
}

row(id, service, region, extra) := object.union(
	{
		"id": id,
		"service": service,
		"region": region,
		"languages": [],
		"jurisdiction": "DE",
		"contract_expires": now + day,
		"review_expires": now + (2 * day),
		"hosts": [concat("", [id, ".example:443"])],
		"options": {},
		"stages": stages_of[service],
		"transfers": [],
	},
	extra,
)

stages_of := {
	"messaging": ["capture", "notice", "reply"],
	"speech-to-text": ["transcribe"],
}

cell := row("msg.cell", "messaging", "eu-central", {})

near := row("stt.near", "speech-to-text", "eu-central", {
	"languages": ["de"],
	"contract_expires": 0,
	"hosts": [],
})

far := row("stt.far", "speech-to-text", "eu-west", {
	"languages": ["de", "fr"],
	"options": {"opt_out": "true"},
})

abroad := row("stt.abroad", "speech-to-text", "us-east", {
	"jurisdiction": "US",
	"languages": ["de", "en"],
	"transfers": [{"expires": now + 10, "law": "A law", "module": "2", "tool": "scc"}],
})

swiss := row("stt.swiss", "speech-to-text", "eu-zurich", {"jurisdiction": "CH", "languages": ["de"]})

home_only := {
	"adequate": [],
	"barred": [],
	"law": "A law",
	"minor_consent": false,
	"tools": {},
}

jurisdictions := {
	"DE": object.union(home_only, {
		"regions": ["eu-central", "eu-west"],
		"transfers": "restricted",
		"retention": clocks,
		"redact": redact,
	}),
	"AT": object.union(home_only, {
		"regions": ["eu-west", "eu-central"],
		"transfers": "restricted",
		"retention": object.union(clocks, {"raw_audio_seconds": 9, "transcript_seconds": 1000}),
		"redact": object.union(redact, {"understand": ["iban"]}),
	}),
	"SG": object.union(home_only, {
		"regions": ["ap-singapore"],
		"transfers": "restricted",
		"retention": clocks,
		"redact": redact,
	}),
	"US": object.union(home_only, {
		"regions": ["us-east"],
		"transfers": "free",
		"retention": clocks,
		"redact": redact,
	}),
}

# A row as the index has it: *until* is when agreement or review ends.
stock(entries) := [object.union({"until": until(one)}, object.filter(one, ["hosts", "id", "options", "region"])) |
	some one in entries
]

until(one) := one.contract_expires if one.contract_expires > 0

until(one) := one.review_expires if one.contract_expires == 0

at_home(home) := {"abroad": {}, "home": home}

messaging(n) := {stage: at_home({"*": [n]}) | some stage in stages_of.messaging}

near_shelves := {
	"eu-central": object.union(messaging(0), {"transcribe": at_home({"de": [1, 2], "fr": [1]})}),
	"eu-west": {"transcribe": at_home({"de": [1], "fr": [1]})},
}

# SG has the shelves of DE: the rules must not rely on the index having been narrow.
world := {
	"grounds": [],
	"index": {
		"kin": {"AT": "DE", "DE": "DE", "SG": "DE", "US": "US"},
		"rows": stock([cell, far, near, abroad]),
		"shelves": {
			"DE": near_shelves,
			"US": {
				"eu-central": object.union(messaging(0), {"transcribe": at_home({"de": [2]})}),
				"us-east": {"transcribe": at_home({"de": [3], "en": [3]})},
			},
		},
	},
	"jurisdictions": jurisdictions,
	"notices": ["2026-10", "2026-11"],
	"processors": [cell, far, near, abroad],
	"revision": "r1",
	"strictest": {
		"minor_consent": false,
		"redact": object.union(redact, {"understand": ["card", "iban"]}),
		"retention": object.union(clocks, {"raw_audio_seconds": 9}),
	},
	"tenants": {"acme": {}, "tight": {}},
	"ways": {},
}

# The same, but the deployment names every ground, and DE admits some of them for some data.
open_law := object.union(jurisdictions.DE, {
	"adequate": [{"country": "CH", "reference": "a decision", "as_of": "2026-11-22"}],
	"tools": {"voice": ["adequacy", "scc", "explicit-consent"]},
})

way(ground, label) := {"expires": 9999999999, "ground": ground, "label": label}

open_ways := {"voice": {
	"stt.abroad": [
		object.union(way("scc", "scc:2"), {"expires": now + 10}),
		way("explicit-consent", "explicit-consent"),
	],
	"stt.swiss": [way("adequacy", "adequacy:CH"), way("explicit-consent", "explicit-consent")],
}}

open_shelf := object.union(messaging(0), {"transcribe": {
	"abroad": {"de": [1, 3], "en": [1]},
	"home": {"de": [2, 4], "fr": [2]},
}})

open_world := object.union(object.remove(world, ["grounds", "index", "jurisdictions", "ways"]), {
	"grounds": ["adequacy", "bcr", "explicit-consent", "scc"],
	"index": {
		"kin": {"AT": "AT", "DE": "DE"},
		"rows": stock([cell, abroad, far, swiss, near]),
		"shelves": {
			"AT": {"eu-central": open_shelf},
			"DE": {"eu-central": open_shelf},
		},
	},
	"jurisdictions": object.union(object.remove(jurisdictions, ["DE"]), {"DE": open_law}),
	"processors": [cell, abroad, far, swiss, near],
	"ways": {"DE": open_ways},
})

asking(changes) := object.union(question, object.union(handing(changes), changes))

# As before there was a controller in a question: each law in question was the person's.
of_old(changes) := object.remove(asking(changes), ["controller"])

handing(changes) := {"data_class": object.get(class_of, object.get(changes, "stage", "transcribe"), "voice")}

agreeing(changes) := asking({"consent": changes})

agreeing_as(tenant) := asking({"tenant": tenant, "consent": {"tenant": tenant}})
