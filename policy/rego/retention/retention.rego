# METADATA
# title: Retention
# description: The longest that each kind of artifact may be kept; the smallest number wins.
# scope: package
# schemas:
#   - input: schema.question
# custom:
#   code: retention
#   article: GDPR Art. 5(1)(e)
package vocustody.retention

import data.vocustody.law

kinds := [
	"raw_audio_seconds",
	"redacted_seconds",
	"reply_audio_seconds",
	"transcript_seconds",
]

# METADATA
# title: Every kind has its clock
# scope: rule
# custom:
#   code: retention.complete
#   article: GDPR Art. 5(1)(e), 25(2)
default complete := false

complete if {
	law.known
	every rule in law.laws {
		every kind in kinds {
			rule.retention[kind] > 0
		}
	}
}

# METADATA
# title: Seconds per kind
# description: A tenant's own number counts only where it is smaller than the law's.
# scope: rule
# custom:
#   code: retention.seconds
#   article: GDPR Art. 5(1)(e)
seconds[kind] := n if {
	some clocks in ceilings
	some kind, n in clocks
	every other in ceilings {
		n <= object.get(other, kind, n)
	}
}

ceilings contains rule.retention if some rule in law.laws

ceilings contains data.vocustody.tenants[input.tenant].retention if law.known
