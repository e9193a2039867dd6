# METADATA
# title: Residency
# description: Which processors may work on this, where they stand and under which contract.
# scope: package
# custom:
#   code: residency
#   article: GDPR Art. 28, 44
package vocustody.residency

# METADATA
# title: Whose law holds is known
# description: Several codes joined by "+" are candidates; what is allowed is allowed by each.
# scope: rule
# custom:
#   code: jurisdiction.known
#   article: GDPR Art. 3
default known := false

known if {
	every code in codes {
		data.vocustody.jurisdictions[code]
	}
}

# METADATA
# title: The cell stands where this person's law lets it stand
# scope: rule
# custom:
#   code: region.admitted
#   article: GDPR Art. 44
default admitted := false

admitted if {
	every code in codes {
		placed(input.region, code)
	}
}

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
reasons contains "jurisdiction.unknown" if not known

# METADATA
# title: The cell stands in a region that this person's law does not admit
# scope: rule
# custom:
#   code: region.foreign
#   article: GDPR Art. 44; PDPA s. 26; LGPD Art. 33
reasons contains "region.foreign" if {
	known
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

heard if input.stage != "capture"

heard if count(eligible("transcribe")) > 0

codes := split(input.jurisdiction, "+")

candidates := eligible(input.stage)

eligible(stage) := [row |
	some row in object.get(data.vocustody.index, [codes[0], stage], [])
	near(row)
	every code in codes {
		placed(row.region, code)
	}
	contracted(row)
	speaks(row)
	accepted(row)
]

# Where transfers are restricted, cell and processor both stand in an allowed region. Where they
# are free, the cell may stand abroad, but the data does not travel on from there.
placed(region, code) if {
	input.region in data.vocustody.jurisdictions[code].regions
	region in data.vocustody.jurisdictions[code].regions
}

placed(region, code) if {
	data.vocustody.jurisdictions[code].transfers == "free"
	region == input.region
}

# A WhatsApp number keeps its messages in one place: it is the cell's or none.
near(row) if row.service != "messaging"

near(row) if row.region == input.region

# No contract is needed for what runs inside the cell, and only there.
contracted(row) if row.contract_expires > input.now

contracted(row) if {
	row.contract_expires == 0
	row.region == input.region
}

speaks(row) if count(row.languages) == 0

speaks(row) if {
	some language in row.languages
	language in input.languages
}

# The controller may object to a sub-processor (GDPR Art. 28(2)).
accepted(row) if {
	every refused in object.get(data.vocustody.tenants, [input.tenant, "refused"], []) {
		refused != row.id
	}
}
