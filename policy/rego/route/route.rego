# METADATA
# title: Route
# description: The one answer. It is allowed only if each fact below holds; none is assumed.
# scope: package
# schemas:
#   - input: schema.question
# custom:
#   code: route
#   article: GDPR Art. 5(2), 25
package vocustody.route

import data.vocustody.consent
import data.vocustody.law
import data.vocustody.redaction
import data.vocustody.residency
import data.vocustody.retention

# METADATA
# title: What each step hands over
# scope: rule
# custom:
#   code: route.handed
#   article: GDPR Art. 5(1)(b), 5(1)(c)
handed := {
	"capture": "voice",
	"notice": "message",
	"reply": "reply_text",
	"speak": "reply_text",
	"transcribe": "voice",
	"understand": "redacted_text",
}

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
	class_expected
	tenant_known
	purpose_accepted
	welcome
	permitted
	unheld
	unprotected
	residency.served
	retention.complete
	redaction.complete
	count(reasons) == 0
}

# A name of its own: the embedded engine looks a rule of another package up again at each use.
candidates := residency.candidates

# METADATA
# title: Who may be used, in this order and nobody else
# scope: rule
# custom:
#   code: route.processors
#   article: GDPR Art. 28(1), 44
default processors := []

processors := [found.row.id | some found in candidates] if allow

default obligations := {
	"egress": {},
	"options": {},
	"raw_audio_seconds": 0,
	"redact": {},
	"redacted_seconds": 0,
	"reply_audio_seconds": 0,
	"transcript_seconds": 0,
	"transfers": {},
}

# METADATA
# title: What must be done if the answer is used
# scope: rule
# custom:
#   code: route.obligations
#   article: GDPR Art. 25, 28(3), 44
obligations := {
	"egress": {found.row.id: found.row.hosts | some found in candidates},
	"options": {found.row.id: found.row.options | some found in candidates},
	"raw_audio_seconds": retention.seconds.raw_audio_seconds,
	"redact": redaction.classes,
	"redacted_seconds": retention.seconds.redacted_seconds,
	"reply_audio_seconds": retention.seconds.reply_audio_seconds,
	"transcript_seconds": retention.seconds.transcript_seconds,
	"transfers": {found.row.id: found.transfer | some found in candidates},
} if {
	allow
}

reasons contains code if some code in against

reasons contains code if some code in residency.reasons

# METADATA
# title: What speaks against the question itself, whoever would do the work
# scope: rule
# custom:
#   code: route.against
#   article: GDPR Art. 5(2), 12(1)
against contains code if some code in residency.against

against contains code if {
	not exempt
	some code in consent.reasons
}

# METADATA
# title: Not a step that anybody takes
# scope: rule
# custom:
#   code: stage.unknown
#   article: GDPR Art. 5(1)(b)
against contains "stage.unknown" if not stage_known

# METADATA
# title: Not a controller that we work for
# scope: rule
# custom:
#   code: tenant.unknown
#   article: GDPR Art. 28(3)(a)
against contains "tenant.unknown" if not tenant_known

# METADATA
# title: Under legal hold, nothing is processed further
# scope: rule
# custom:
#   code: hold.active
#   article: GDPR Art. 18(2)
against contains "hold.active" if not unheld

# METADATA
# title: A child's own consent does not count here
# scope: rule
# custom:
#   code: minor.protected
#   article: GDPR Art. 8
against contains "minor.protected" if not unprotected

# METADATA
# title: No jurisdiction gives a full set of clocks
# scope: rule
# custom:
#   code: retention.incomplete
#   article: GDPR Art. 5(1)(e)
against contains "retention.incomplete" if {
	law.known
	not retention.complete
}

# METADATA
# title: No jurisdiction says what to redact for a sink
# scope: rule
# custom:
#   code: redaction.incomplete
#   article: GDPR Art. 25(1)
against contains "redaction.incomplete" if {
	law.known
	not redaction.complete
}

# METADATA
# title: This step does not hand over such data
# scope: rule
# custom:
#   code: data_class.unexpected
#   article: GDPR Art. 5(1)(c)
against contains "data_class.unexpected" if not class_expected

# METADATA
# title: The controller does not let us work for this purpose
# scope: rule
# custom:
#   code: purpose.refused
#   article: GDPR Art. 28(3)(a)
against contains "purpose.refused" if not purpose_accepted

# METADATA
# title: The controller serves nobody who is under another law than its own
# description: They are told so, and nothing else of theirs is processed.
# scope: rule
# custom:
#   code: person.declined
#   article: GDPR Art. 5(1)(c), 28(3)(a)
against contains "person.declined" if not welcome

welcome if notice

welcome if object.get(data.vocustody.tenants, [input.tenant, "abroad"], "serve") == "serve"

welcome if law.related

notice if input.stage == "notice"

stage_known if handed[input.stage]

class_expected if handed[input.stage] == input.data_class

tenant_known if data.vocustody.tenants[input.tenant]

purpose_accepted if {
	every refused in object.get(data.vocustody.tenants, [input.tenant, "refused_purposes"], []) {
		refused != input.purpose
	}
}

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

unprotected if law.capable

unprotected if exempt
