# METADATA
# title: Redaction
# description: What is taken out of a text before it reaches each sink.
# scope: package
# schemas:
#   - input: schema.question
# custom:
#   code: redaction
#   article: GDPR Art. 5(1)(c), 25
package vocustody.redaction

import data.vocustody.law

sinks := ["analytics", "log", "understand"]

# METADATA
# title: Every sink has its classes
# scope: rule
# custom:
#   code: redaction.complete
#   article: GDPR Art. 25(1)
default complete := false

complete if {
	every code in law.codes {
		every sink in sinks {
			count(data.vocustody.jurisdictions[code].redact[sink]) > 0
		}
	}
}

# METADATA
# title: Classes per sink
# description: Those of each jurisdiction and of the tenant together; nobody can take one away.
# scope: rule
# custom:
#   code: redaction.classes
#   article: GDPR Art. 5(1)(c)
classes[sink] := found if {
	some sink in sinks
	found := {class |
		some lists in demands
		some class in lists[sink]
	}
}

demands contains data.vocustody.jurisdictions[code].redact if some code in law.codes

demands contains data.vocustody.tenants[input.tenant].redact if law.known
