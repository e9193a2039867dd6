# METADATA
# title: Route
# description: The one answer. It is allowed only if each fact below holds; none is assumed.
# scope: package
# custom:
#   code: route
#   article: GDPR Art. 5(2), 25
package vocustody.route

import data.vocustody.consent
import data.vocustody.redaction
import data.vocustody.residency
import data.vocustody.retention

stages := {"capture", "notice", "reply", "speak", "transcribe", "understand"}

# METADATA
# title: Decision
# description: Allow, reason codes, processors in order of preference, obligations, revision.
# entrypoint: true
# custom:
#   code: route.decision
#   article: GDPR Art. 5(2)
decision := {
	"allow": allow,
	"obligations": obligations,
	"processors": processors,
	"reasons": reasons,
	"revision": data.vocustody.revision,
}

# METADATA
# title: Everything that must hold, holds
# scope: rule
# custom:
#   code: route.allow
#   article: GDPR Art. 6(1)
default allow := false

allow if {
	stage_known
	tenant_known
	permitted
	unheld
	unprotected
	residency.admitted
	residency.served
	retention.complete
	redaction.complete
	count(reasons) == 0
}

default processors := []

processors := [row.id | some row in residency.candidates] if allow

default obligations := {
	"options": {},
	"raw_audio_seconds": 0,
	"redact": {},
	"redacted_seconds": 0,
	"reply_audio_seconds": 0,
	"transcript_seconds": 0,
}

obligations := {
	"options": {row.id: row.options | some row in residency.candidates},
	"raw_audio_seconds": retention.seconds.raw_audio_seconds,
	"redact": redaction.classes,
	"redacted_seconds": retention.seconds.redacted_seconds,
	"reply_audio_seconds": retention.seconds.reply_audio_seconds,
	"transcript_seconds": retention.seconds.transcript_seconds,
} if {
	allow
}

reasons contains code if some code in residency.reasons

reasons contains code if {
	not exempt
	some code in consent.reasons
}

# METADATA
# title: Not a step that anybody takes
# scope: rule
# custom:
#   code: stage.unknown
#   article: GDPR Art. 5(1)(b)
reasons contains "stage.unknown" if not stage_known

# METADATA
# title: Not a controller that we work for
# scope: rule
# custom:
#   code: tenant.unknown
#   article: GDPR Art. 28(3)(a)
reasons contains "tenant.unknown" if not tenant_known

# METADATA
# title: Under legal hold, nothing is processed further
# scope: rule
# custom:
#   code: hold.active
#   article: GDPR Art. 18(2)
reasons contains "hold.active" if not unheld

# METADATA
# title: A child's voice is not recorded
# scope: rule
# custom:
#   code: minor.protected
#   article: GDPR Art. 8
reasons contains "minor.protected" if not unprotected

# METADATA
# title: No jurisdiction gives a full set of clocks
# scope: rule
# custom:
#   code: retention.incomplete
#   article: GDPR Art. 5(1)(e)
reasons contains "retention.incomplete" if {
	residency.known
	not retention.complete
}

# METADATA
# title: No jurisdiction says what to redact for a sink
# scope: rule
# custom:
#   code: redaction.incomplete
#   article: GDPR Art. 25(1)
reasons contains "redaction.incomplete" if {
	residency.known
	not redaction.complete
}

notice if input.stage == "notice"

stage_known if input.stage in stages

tenant_known if data.vocustody.tenants[input.tenant]

# Asking for consent cannot need consent, and typed words are answered because the person asked;
# a recording is another matter, and so is speaking back.
permitted if exempt

permitted if consent.live

exempt if notice

exempt if typed

# METADATA
# title: Typed words are answered at the person's own request
# scope: rule
# custom:
#   code: typed
#   article: GDPR Art. 6(1)(b)
typed if {
	input.purpose == "answer_typed"
	input.stage in {"reply", "understand"}
}

unheld if notice

unheld if input.held == false

unprotected if input.minor == false

unprotected if input.stage in {"notice", "reply", "speak", "understand"}
