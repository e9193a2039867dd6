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

question := {
	"consent": consent,
	"held": false,
	"jurisdiction": "DE",
	"languages": ["de", "en"],
	"minor": false,
	"now": now,
	"purpose": "transcribe_and_answer",
	"region": "eu-central",
	"stage": "transcribe",
	"tenant": "acme",
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
		"contract_expires": now + day,
		"options": {},
	},
	extra,
)

cell := row("msg.cell", "messaging", "eu-central", {})

near := row("stt.near", "speech-to-text", "eu-central", {"languages": ["de"], "contract_expires": 0})

far := row("stt.far", "speech-to-text", "eu-west", {
	"languages": ["de", "fr"],
	"options": {"opt_out": "true"},
})

abroad := row("stt.abroad", "speech-to-text", "us-east", {"languages": ["de", "en"]})

jurisdictions := {
	"DE": {
		"regions": ["eu-central", "eu-west"],
		"transfers": "restricted",
		"retention": clocks,
		"redact": redact,
	},
	"AT": {
		"regions": ["eu-west", "eu-central"],
		"transfers": "restricted",
		"retention": object.union(clocks, {"raw_audio_seconds": 9, "transcript_seconds": 1000}),
		"redact": object.union(redact, {"understand": ["iban"]}),
	},
	"SG": {
		"regions": ["ap-singapore"],
		"transfers": "restricted",
		"retention": clocks,
		"redact": redact,
	},
	"US": {
		"regions": ["us-east"],
		"transfers": "free",
		"retention": clocks,
		"redact": redact,
	},
}

# Every row under every jurisdiction: the rules must not rely on the index having been narrow.
stages := {
	"capture": [cell],
	"notice": [cell],
	"reply": [cell],
	"transcribe": [far, near, abroad],
}

world := {
	"index": {"AT": stages, "DE": stages, "SG": stages, "US": stages},
	"jurisdictions": jurisdictions,
	"notices": ["2026-10", "2026-11"],
	"revision": "r1",
	"tenants": {"acme": {}, "tight": {}},
}

asking(changes) := object.union(question, changes)

agreeing(changes) := asking({"consent": changes})

agreeing_as(tenant) := asking({"tenant": tenant, "consent": {"tenant": tenant}})
