# METADATA
# title: Law
# description: |
#   Whose law holds: the controller's and the person's. Consent, retention, redaction and rights go by
#   the stricter of each; places go by the controller's, and by the person's where it localises.
# scope: package
# schemas:
#   - input: schema.question
# custom:
#   code: law
#   article: GDPR Art. 3
package vocustody.law

# METADATA
# title: Where the controller is established
# description: A question from before this was a fact has none; there the person's law was all there was.
# scope: rule
# custom:
#   code: law.controllers
#   article: GDPR Art. 3(1)
controllers := split(object.get(input, "controller", input.jurisdiction), "+")

# METADATA
# title: Where the person may be; of several codes each counts
# scope: rule
# custom:
#   code: law.persons
#   article: GDPR Art. 3(2)
persons := split(input.jurisdiction, "+")

# METADATA
# title: Countries of the person for which the table has no law
# scope: rule
# custom:
#   code: law.unlisted
#   article: GDPR Art. 24(1), 25(2)
unlisted := {code | some code in persons} - {code | some code in persons; data.vocustody.jurisdictions[code]}

codes := {code | some group in [controllers, persons]; some code in group}

# METADATA
# title: What each law says; where one is not known, the strictest that any law says
# scope: rule
# custom:
#   code: law.laws
#   article: GDPR Art. 3
laws := [rule |
	some group in [
		[found | some code in codes; found := data.vocustody.jurisdictions[code]],
		[found | count(unlisted) > 0; found := data.vocustody.strictest],
	]
	some rule in group
]

# METADATA
# title: The controller's law is known, and what stands in for a person's that is not
# scope: rule
# custom:
#   code: controller.law_missing
#   article: GDPR Art. 3(1), 5(2)
default known := false

known if {
	count([code | some code in controllers; data.vocustody.jurisdictions[code]]) == count(controllers)
	substituted
}

substituted if count(unlisted) == 0

substituted if data.vocustody.strictest

# METADATA
# title: Laws of the person that keep such data in the country
# description: Telling somebody that they are not served hands over nothing of theirs.
# scope: rule
# custom:
#   code: law.localising
#   article: GDPR Art. 3(2), 44
localising := [code |
	input.stage != "notice"
	some code in persons
	object.get(data.vocustody.jurisdictions, [code, "localises"], "") != ""
	count([own | some own in controllers; own == code]) == 0
]

# METADATA
# title: Whose law says where cell and processors may stand
# description: |
#   What a person sends to the controller's own cell is collected from them directly: no transfer
#   (EDPB Guidelines 05/2021, 12-14). What goes on from there, the controller sends.
# scope: rule
# custom:
#   code: law.places
#   article: GDPR Art. 44; EDPB Guidelines 05/2021
places := [code | some group in [controllers, localising]; some code in group]

# METADATA
# title: The person is under the controller's own law, wherever they may be
# scope: rule
# custom:
#   code: law.related
#   article: GDPR Art. 3
related if {
	every code in persons {
		count([1 | some own in controllers; same(own, code)]) > 0
	}
}

same(own, code) if data.vocustody.jurisdictions[own].law == data.vocustody.jurisdictions[code].law

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
# title: At home under each law that says where
# scope: rule
# custom:
#   code: law.domestic
#   article: GDPR Art. 44
domestic(region) if at_home(region, places)

# METADATA
# title: At home under the law of each of some countries
# scope: rule
# custom:
#   code: law.at_home
#   article: GDPR Art. 44
at_home(region, countries) if {
	rules := [rule | some code in countries; rule := data.vocustody.jurisdictions[code]; home(region, rule)]
	count(rules) == count(countries)
}

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

# METADATA
# title: Where no law of the person's is known, nothing goes further than the cell's own region
# scope: rule
# custom:
#   code: region.confined
#   article: GDPR Art. 24(1), 25(2)
default within(_) := false

within(region) if region == input.region

within(_) if count(unlisted) == 0
