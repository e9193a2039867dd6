# METADATA
# title: Whose law
# description: |
#   Whose law holds for one question, what follows from it, and which law says so. These are slow
#   rules: they walk the table itself, and a test holds the answer of the hot path to them.
# scope: package
# schemas:
#   - input: schema.question
# custom:
#   code: whose_law
#   article: GDPR Art. 5(2), 12(1)
package vocustody.whose_law

import data.vocustody.law

# METADATA
# title: Whose law holds, and what follows from it
# scope: rule
# custom:
#   code: whose_law.held
#   article: GDPR Art. 3, 5(2)
held := {
	"controller": named(law.controllers),
	"localising": {code: article | some code in law.localising; article := data.vocustody.jurisdictions[code].localises},
	"parts": parts,
	"person": named(law.persons),
	"unlisted": law.unlisted,
}

named(codes) := {code: name | some code in codes; name := object.get(data.vocustody.jurisdictions, [code, "law"], "")}

# METADATA
# title: What each part of the law is, and by whom
# description: |
#   By countries, by "strictest" (the table's ceilings, for a country that has no law in it), or by
#   "tenant".
# scope: rule
# custom:
#   code: whose_law.parts
#   article: GDPR Art. 3, 5(2)
parts[name] := {"by": {one.by | some one in said}, "value": value} if {
	some name, kind in {
		"retention.raw_audio": "raw_audio_seconds",
		"retention.redacted": "redacted_seconds",
		"retention.reply_audio": "reply_audio_seconds",
		"retention.transcript": "transcript_seconds",
	}
	said := shortest(kind)
	value := said[0].seconds
}

parts[name] := {"by": {one.by | some one in said}, "value": {one.class | some one in said}} if {
	some name, sink in {
		"redact.analytics": "analytics",
		"redact.log": "log",
		"redact.understand": "understand",
	}
	said := [{"by": voice.by, "class": class} |
		some voice in voices
		some class in object.get(voice.rule, ["redact", sink], [])
	]
}

parts["consent.of_minors"] := {"by": saying("minor_consent", minors), "value": minors}

parts["withdrawal.erases"] := {"by": saying("withdrawal_erases", erases), "value": erases}

parts["places"] := {"by": {code | some code in law.places}, "value": places}

# Everybody whose word counts here. For a law that the table does not have, each law of it speaks.
laws := [voice |
	some group in [
		[{"by": code, "rule": rule} | some code in law.codes; rule := data.vocustody.jurisdictions[code]],
		[{"by": "strictest", "rule": rule} | count(law.unlisted) > 0; some rule in data.vocustody.jurisdictions],
	]
	some voice in group
]

voices := [voice |
	some group in [laws, [{"by": "tenant", "rule": data.vocustody.tenants[input.tenant]}]]
	some voice in group
]

shortest(kind) := [one |
	offers := [{"by": voice.by, "seconds": n} | some voice in voices; n := voice.rule.retention[kind]]
	some one in offers
	count([1 | some other in offers; other.seconds < one.seconds]) == 0
]

saying(name, value) := {voice.by | some voice in laws; object.get(voice.rule, name, false) == value}

default minors := false

minors if {
	law.known
	every voice in laws {
		voice.rule.minor_consent
	}
}

default erases := false

erases if {
	some voice in laws
	voice.rule.withdrawal_erases
}

# METADATA
# title: Regions that data may reach with no transfer
# scope: rule
# custom:
#   code: whose_law.places
#   article: GDPR Art. 44
places := {row.region |
	some row in data.vocustody.processors
	law.domestic(row.region)
	law.within(row.region)
}
