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
# title: The cell stands where the laws that say so let it stand
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
# title: The table has no law of the controller's country
# scope: rule
# custom:
#   code: controller.law_missing
#   article: GDPR Art. 3(1), 5(2)
against contains "controller.law_missing" if not law.known

# METADATA
# title: The cell stands in a region that the controller's law does not admit
# scope: rule
# custom:
#   code: region.foreign
#   article: GDPR Art. 44; PDPA s. 26; LGPD Art. 33
against contains "region.foreign" if {
	law.known
	not own
}

# METADATA
# title: The person's law keeps such data in the country, and the cell stands abroad
# scope: rule
# custom:
#   code: law.localises
#   article: GDPR Art. 3(2), 44
against contains "law.localises" if {
	law.known
	not kept_in
}

own if law.at_home(input.region, law.controllers)

kept_in if law.at_home(input.region, law.localising)

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

# What the index says of a row is not asked again: rows are its numbers, and sets of numbers keep
# the registry's order. What is at home under each law is at home.
eligible(stage) := [found |
	admitted
	count(shelves) == count(law.places)
	near := common([spoken(shelf, stage, "home") | some shelf in shelves])
	reach := common([(spoken(shelf, stage, "home") | spoken(shelf, stage, "abroad")) |
		some shelf in shelves
	])
	some group in [
		[{"row": row, "transfer": "domestic"} | some n in near; row := rows[n]; usable(row); law.within(row.region)],
		transfer.labelled([row | some n in (reach - near); row := rows[n]; usable(row)]),
	]
	some found in group
]

rows := data.vocustody.index.rows

# METADATA
# title: What this cell may reach under each law
# scope: rule
# custom:
#   code: residency.shelves
#   article: GDPR Art. 28, 44
shelves := [shelf |
	some code in law.places
	shelf := data.vocustody.index.shelves[data.vocustody.index.kin[code]][input.region]
]

spoken(shelf, stage, part) := {n |
	some language in languages
	some n in object.get(shelf, [stage, part, language], [])
}

languages := [language | some group in [input.languages, ["*"]]; some language in group]

common(sets) := sets[0] - {n | some other in sets; some n in (sets[0] - other)}

# METADATA
# title: Its agreement and its review have not ended, and nobody has put it out of use
# scope: rule
# custom:
#   code: processor.usable
#   article: GDPR Art. 28(1), 28(2), 28(3), 32(1)
usable(row) if {
	row.until > input.now
	object.get(barred, row.id, false) == false
}

# Not knowing who is suspended is not the same as nobody being suspended.
barred := {name: true | some group in [suspended, refused]; some name in group} if suspended := input.suspended

refused := object.get(data.vocustody.tenants, [input.tenant, "refused"], [])
