# METADATA
# title: Access
# description: |
#   Who may do what with a tenant's content, evidence and rules. A role lists its actions; the weighty
#   ones need one or two other people; reading content beyond the service needs the person's own
#   consent.
# scope: package
# schemas:
#   - input: schema.access
# custom:
#   code: access
#   article: GDPR Art. 5(1)(f), 29, 32(4)
package vocustody.access

import data.vocustody.consent

# METADATA
# title: What each role may do
# description: Operators run the cell and read no content; auditors read proofs, not content.
# scope: rule
# custom:
#   code: access.roles
#   article: GDPR Art. 25(2), 32(4)
roles := {
	"agent": {"play_audio", "read_transcript"},
	"approver": {"approve"},
	"auditor": {"read_audit"},
	"dpo": {
		"erase",
		"open_held",
		"place_hold",
		"play_audio",
		"read_audit",
		"read_transcript",
		"release_hold",
	},
	"exporter": {"export"},
	"operator": {"activate_bundle"},
	"tenant_admin": {"erase", "place_hold", "read_audit"},
	"worker": {"erase"},
}

# METADATA
# title: Approvals by other people that an action needs
# description: A hold is placed and released by two people, whoever proposes it being the first.
# scope: rule
# custom:
#   code: access.two_persons
#   article: GDPR Art. 32(1)(b), 32(4)
needed := {"activate_bundle": 2, "export": 2, "place_hold": 1, "release_hold": 1}

# METADATA
# title: Purposes of reading content, and whether the person must have agreed to it
# scope: rule
# custom:
#   code: access.purposes
#   article: GDPR Art. 5(1)(b), 6(1)(a), 15
purposes := {
	"analytics": true,
	"human_review": true,
	"rights": false,
	"service": false,
	"training": true,
}

content := {"export", "play_audio", "read_transcript"}

# METADATA
# title: Decision
# entrypoint: true
# custom:
#   code: access.decision
#   article: GDPR Art. 5(2), 32(4)
decision := {
	"allow": allow,
	"approvers": approvers,
	"reasons": reasons,
	"revision": data.vocustody.revision,
}

# METADATA
# title: Everything that must hold, holds
# scope: rule
# custom:
#   code: access.allow
#   article: GDPR Art. 32(4)
default allow := false

allow if {
	granted
	ours
	approved
	agreed
	count(reasons) == 0
}

# METADATA
# title: Not among the role's actions
# scope: rule
# custom:
#   code: role.forbidden
#   article: GDPR Art. 29, 32(4)
reasons contains "role.forbidden" if not granted

# METADATA
# title: Another tenant's
# scope: rule
# custom:
#   code: tenant.foreign
#   article: GDPR Art. 28(3)(a), 29
reasons contains "tenant.foreign" if not ours

# METADATA
# title: As many other people as it needs have not approved exactly this
# scope: rule
# custom:
#   code: approval.missing
#   article: GDPR Art. 32(1)(b)
reasons contains "approval.missing" if not approved

# METADATA
# title: Content is not read for such a purpose
# scope: rule
# custom:
#   code: purpose.unknown
#   article: GDPR Art. 5(1)(b)
reasons contains "purpose.unknown" if not purposeful

# METADATA
# title: The person has not agreed to being listened to for this
# scope: rule
# custom:
#   code: consent.missing
#   article: GDPR Art. 6(1)(a)
reasons contains "consent.missing" if {
	purposeful
	not agreed
}

granted if input.action in roles[input.role]

ours if input.tenant == input.owner

approved if count(approvers) >= object.get(needed, input.action, 0)

# METADATA
# title: Who counts as having approved
# description: |
#   Each person once, never whoever asks, as approver of the same tenant, for the digest of this very
#   request, within the last 24 hours.
# scope: rule
# custom:
#   code: approval.counted
#   article: GDPR Art. 32(1)(b)
approvers := {approval.approver |
	some approval in input.approvals
	approval.approver != input.actor
	approval.role == "approver"
	approval.tenant == input.owner
	approval.request_digest == input.request_digest
	approval.at <= input.now
	approval.at > input.now - 86400
}

reading if input.action in content

purposeful if not reading

purposeful if purposes[input.purpose] in {true, false}

agreed if not reading

agreed if purposes[input.purpose] == false

agreed if {
	purposes[input.purpose]
	consent.live
	input.minor == false
}
