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
	law.known
	every rule in law.laws {
		every sink in sinks {
			count(rule.redact[sink]) > 0
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

demands contains rule.redact if some rule in law.laws

demands contains data.vocustody.tenants[input.tenant].redact if law.known
