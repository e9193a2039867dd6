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
# title: What each candidate's law says, in the order of the codes
# scope: rule
# custom:
#   code: law.laws
#   article: GDPR Art. 3
laws := [rule | some code in codes; rule := data.vocustody.jurisdictions[code]]

# METADATA
# title: Whose law holds is known
# scope: rule
# custom:
#   code: jurisdiction.known
#   article: GDPR Art. 3
default known := false

known if count(laws) == count(codes)

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
	known
	every rule in laws {
		rule.minor_consent
	}
}

# METADATA
# title: At home under each law
# scope: rule
# custom:
#   code: law.domestic
#   article: GDPR Art. 44
domestic(region) if count([rule | some rule in laws; home(region, rule)]) == count(codes)

# METADATA
# title: At home under a law
# description: |
#   Where transfers are restricted, cell and processor both stand in an allowed region. Where they
#   are free, the cell may stand abroad, but the data does not travel on from there.
# scope: rule
# custom:
#   code: law.home
#   article: GDPR Art. 44
home(region, rule) if {
	input.region in rule.regions
	region in rule.regions
}

home(region, rule) if {
	rule.transfers == "free"
	region == input.region
}
