# METADATA
# title: Law
# description: Whose law holds. Several codes are candidates, and what is allowed is allowed by each.
# scope: package
# schemas:
#   - input: schema.question
# custom:
#   code: law
#   article: GDPR Art. 3
package vocustody.law

# METADATA
# title: The candidate jurisdictions
# scope: rule
# custom:
#   code: law.codes
#   article: GDPR Art. 3
codes := split(input.jurisdiction, "+")

# METADATA
# title: Whose law holds is known
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
# title: The person can agree by themselves
# description: A minor's own consent counts only where every law in question says that it does.
# scope: rule
# custom:
#   code: law.capable
#   article: GDPR Art. 8
default capable := false

capable if input.minor == false

capable if {
	every code in codes {
		data.vocustody.jurisdictions[code].minor_consent
	}
}

# METADATA
# title: At home under each law
# scope: rule
# custom:
#   code: law.domestic
#   article: GDPR Art. 44
domestic(region) if count([code | some code in codes; home(region, code)]) == count(codes)

# METADATA
# title: At home under a law
# description: |
#   Where transfers are restricted, cell and processor both stand in an allowed region. Where they
#   are free, the cell may stand abroad, but the data does not travel on from there.
# scope: rule
# custom:
#   code: law.home
#   article: GDPR Art. 44
home(region, code) if {
	input.region in data.vocustody.jurisdictions[code].regions
	region in data.vocustody.jurisdictions[code].regions
}

home(region, code) if {
	data.vocustody.jurisdictions[code].transfers == "free"
	region == input.region
}
