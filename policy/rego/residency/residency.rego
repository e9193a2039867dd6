# METADATA
# title: Residency
# description: Which processors may work on this, where they stand and under which contract.
# scope: package
# schemas:
#   - input: schema.question
# custom:
#   code: residency
#   article: GDPR Art. 28, 44
package vocustody.residency

import data.vocustody.law
import data.vocustody.transfer

# METADATA
# title: The cell stands where this person's law lets it stand
# scope: rule
# custom:
#   code: region.admitted
#   article: GDPR Art. 44
default admitted := false

admitted if law.domestic(input.region)

# METADATA
# title: Somebody can do the work
# description: Capture also needs somebody to transcribe; a note nobody can hear is not fetched.
# scope: rule
# custom:
#   code: processor.some
#   article: GDPR Art. 5(1)(c), 28(1)
default served := false

served if {
	count(candidates) > 0
	heard
}

# METADATA
# title: Nothing says whose law holds
# scope: rule
# custom:
#   code: jurisdiction.unknown
#   article: GDPR Art. 3, 44
against contains "jurisdiction.unknown" if not law.known

# METADATA
# title: The cell stands in a region that this person's law does not admit
# scope: rule
# custom:
#   code: region.foreign
#   article: GDPR Art. 44; PDPA s. 26; LGPD Art. 33
against contains "region.foreign" if {
	law.known
	not admitted
}

# METADATA
# title: No processor in place, under contract, in this language
# scope: rule
# custom:
#   code: processor.none
#   article: GDPR Art. 28(1), 28(3)
reasons contains "processor.none" if {
	admitted
	not served
}

reasons contains code if some code in against

# "else", for the embedded engine runs every other body too, also after one held.
heard if {
	input.stage != "capture"
} else if {
	count(eligible("transcribe")) > 0
}

# METADATA
# title: The processors, in order of preference, each with the ground of its transfer
# description: Whoever is at home comes before anybody abroad; else the registry's order holds.
# scope: rule
# custom:
#   code: processor.candidates
#   article: GDPR Art. 25, 44
candidates := eligible(input.stage)

eligible(stage) := [found |
	fit := [row |
		some row in object.get(data.vocustody.index, [law.codes[0], stage], [])
		usable(row)
	]
	some group in [
		[{"row": row, "transfer": "domestic"} | some row in fit; law.domestic(row.region)],
		[{"row": row, "transfer": label} |
			count(data.vocustody.grounds) > 0
			some row in fit
			label := transfer.labels(row)[0]
		],
	]
	some found in group
]

usable(row) if {
	reachable(row)
	contracted(row)
	reviewed(row)
	unsuspended(row)
	accepted(row)
	speaks(row)
}

# METADATA
# title: It can be reached from this cell
# description: |
#   A WhatsApp number keeps its messages in one place, and what runs without a contract runs inside
#   a cell: each is this cell's own or none.
# scope: rule
# custom:
#   code: processor.region
#   article: GDPR Art. 28, 44
default reachable(_) := false

reachable(row) if row.region == input.region

reachable(row) if {
	row.service != "messaging"
	row.contract_expires > 0
}

# METADATA
# title: Its agreement is filed and has not ended; what runs inside the cell needs none
# scope: rule
# custom:
#   code: processor.contract_expired
#   article: GDPR Art. 28(3)
default contracted(_) := false

contracted(row) if row.contract_expires > input.now

contracted(row) if row.contract_expires == 0

# METADATA
# title: Somebody has looked at it lately
# scope: rule
# custom:
#   code: processor.review_expired
#   article: GDPR Art. 28(1), 24(1)
default reviewed(_) := false

reviewed(row) if row.review_expires > input.now

# METADATA
# title: No finding has taken it out of service
# scope: rule
# custom:
#   code: processor.suspended
#   article: GDPR Art. 28(1), 32(1)
default unsuspended(_) := false

unsuspended(row) if object.get(suspended, row.id, false) == false

suspended := {name: true | some name in names} if names := input.suspended

# METADATA
# title: The controller does not object to it
# scope: rule
# custom:
#   code: processor.refused_by_tenant
#   article: GDPR Art. 28(2)
default accepted(_) := false

accepted(row) if object.get(refused, row.id, false) == false

refused := {name: true |
	some name in object.get(data.vocustody.tenants, [input.tenant, "refused"], [])
}

# METADATA
# title: It serves one of the languages
# scope: rule
# custom:
#   code: processor.language
#   article: GDPR Art. 5(1)(d)
default speaks(_) := false

speaks(row) if count(row.languages) == 0

speaks(row) if {
	some language in row.languages
	language in input.languages
}
