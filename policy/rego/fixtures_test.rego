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

# Every row under every jurisdiction: the rules must not rely on the index having been narrow.
stages := {
	"capture": [cell],
	"notice": [cell],
	"reply": [cell],
	"transcribe": [far, near, abroad],
}

world := {
	"grounds": [],
	"index": {"AT": stages, "DE": stages, "SG": stages, "US": stages},
	"jurisdictions": jurisdictions,
	"notices": ["2026-10", "2026-11"],
	"processors": [cell, far, near, abroad],
	"revision": "r1",
	"tenants": {"acme": {}, "tight": {}},
	"ways": {},
}

# The same, but the deployment names every ground, and DE admits some of them for some data.
open_law := object.union(jurisdictions.DE, {
	"adequate": [{"country": "CH", "reference": "a decision", "as_of": "2026-11-22"}],
	"tools": {"voice": ["adequacy", "scc", "explicit-consent"]},
})

open_ways := {
	"stt.abroad": [
		{"classes": ["voice"], "expires": now + 10, "ground": "scc", "label": "scc:2"},
		{"classes": ["voice"], "expires": 9999999999, "ground": "explicit-consent", "label": "explicit-consent"},
	],
	"stt.swiss": [
		{"classes": ["voice"], "expires": 9999999999, "ground": "adequacy", "label": "adequacy:CH"},
		{"classes": ["voice"], "expires": 9999999999, "ground": "explicit-consent", "label": "explicit-consent"},
	],
}

open_stages := object.union(stages, {"transcribe": [abroad, far, swiss, near]})

open_world := object.union(object.remove(world, ["grounds", "index", "jurisdictions", "ways"]), {
	"grounds": ["adequacy", "bcr", "explicit-consent", "scc"],
	"index": {"DE": open_stages},
	"jurisdictions": object.union(object.remove(jurisdictions, ["DE"]), {"DE": open_law}),
	"processors": [cell, abroad, far, swiss, near],
	"ways": {"DE": open_ways},
})

asking(changes) := object.union(question, object.union(handing(changes), changes))

handing(changes) := {"data_class": object.get(class_of, object.get(changes, "stage", "transcribe"), "voice")}

agreeing(changes) := asking({"consent": changes})

agreeing_as(tenant) := asking({"tenant": tenant, "consent": {"tenant": tenant}})
