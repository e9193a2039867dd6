# METADATA
# title: Explain
# description: |
#   Each processor of the registry: its rank and the ground of its transfer, or every reason why it
#   is not chosen. These are the slow rules: they walk the registry itself and read no index, and a
#   test holds the answer of the hot path to them.
# scope: package
# schemas:
#   - input: schema.question
# custom:
#   code: explain
#   article: GDPR Art. 5(2), 24(1)
package vocustody.explain

import data.vocustody.law
import data.vocustody.route
import data.vocustody.transfer
import data.vocustody.whose_law

# METADATA
# title: Whose law holds, and why each processor is chosen or not
# entrypoint: true
# custom:
#   code: explain.decision
#   article: GDPR Art. 5(2)
decision := {
	"law": whose_law.held,
	"processors": {row.id: verdict(row) | some row in data.vocustody.processors},
	"revision": data.vocustody.revision,
}

verdict(row) := {
	"ground": object.get(ground, row.id, ""),
	"rank": object.get(rank, row.id, 0),
	"reasons": reasons(row),
}

rank := {row.id: place | some before, row in chosen; place := before + 1}

ground := {row.id: strongest | some row in chosen; strongest := grounds(row, input.stage)[0]}

# METADATA
# title: The processors chosen, at home first, then abroad, each in the order of the registry
# scope: rule
# custom:
#   code: explain.chosen
#   article: GDPR Art. 28(1), 44
chosen := [row |
	count(route.against) == 0
	heard
	fit := [row |
		some row in data.vocustody.processors
		count(faults(row, input.stage)) == 0
	]
	some group in [
		[row | some row in fit; at_home(row)],
		[row | some row in fit; at_home(row) == false],
	]
	some row in group
]

# METADATA
# title: Every reason why a processor is not chosen
# scope: rule
# custom:
#   code: explain.reasons
#   article: GDPR Art. 12(1)
reasons(row) := {code |
	some codes in [route.against, unheard, faults(row, input.stage)]
	some code in codes
}

# METADATA
# title: Nobody could transcribe the note that would be fetched
# scope: rule
# custom:
#   code: processor.unheard
#   article: GDPR Art. 5(1)(c)
unheard contains "processor.unheard" if not heard

heard if input.stage != "capture"

heard if {
	some row in data.vocustody.processors
	count(faults(row, "transcribe")) == 0
}

# METADATA
# title: What speaks against one processor at one step
# scope: rule
# custom:
#   code: explain.faults
#   article: GDPR Art. 28, 44
faults(row, stage) := {code |
	some code, holds in {
		"processor.contract_expired": contracted(row),
		"processor.ground_missing": count(grounds(row, stage)),
		"processor.language": speaks(row),
		"processor.refused_by_tenant": accepted(row),
		"processor.region": reachable(row),
		"processor.review_expired": reviewed(row),
		"processor.stage": count([1 | some served in row.stages; served == stage]),
		"processor.stale_bundle": count([1 | some ok in [at_home(row), fresh]; ok]),
		"processor.suspended": unsuspended(row),
		"region.confined": law.within(row.region),
	}
	holds in {false, 0}
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

default fresh := false

fresh if transfer.fresh

# METADATA
# title: At home under each law
# scope: rule
# custom:
#   code: explain.home
#   article: GDPR Art. 44
homes[row.id] := true if {
	some row in data.vocustody.processors
	law.domestic(row.region)
}

at_home(row) := object.get(homes, row.id, false)

# METADATA
# title: The grounds on which data goes to a processor, from the laws and the filed tools themselves
# scope: rule
# custom:
#   code: explain.ground
#   article: GDPR Art. 44-49
grounds(row, _) := ["domestic"] if at_home(row)

grounds(row, stage) := [label |
	some name in transfer.grounds
	name in data.vocustody.grounds
	under := [tool |
		some code in law.places
		some tool in tools(row, code, name, route.handed[stage])
	]
	met := [code | some code in law.places; covered(row, code, name, route.handed[stage])]
	count(met) == count(law.places)
	label := under[0]
] if at_home(row) == false

covered(row, code, _, _) if {
	rule := data.vocustody.jurisdictions[code]
	law.home(row.region, rule)
}

covered(row, code, name, class) if count(tools(row, code, name, class)) > 0

tools(row, code, name, class) := [label |
	rule := data.vocustody.jurisdictions[code]
	count([region | some region in rule.regions; region == row.region]) == 0
	rule.transfers == "restricted"
	name in object.get(rule.tools, class, [])
	count([country | some country in rule.barred; country == row.jurisdiction]) == 0
	some label in existing(row, rule, name)
]

existing(row, rule, name) := [concat(":", ["adequacy", row.jurisdiction])] if {
	name == "adequacy"
	some listed in rule.adequate
	listed.country == row.jurisdiction
}

existing(_, _, name) := ["explicit-consent"] if name == "explicit-consent"

existing(row, rule, name) := [label |
	some filed in row.transfers
	filed.tool == name
	filed.law == rule.law
	filed.expires > input.now
	label := concat(":", [part | some part in [name, filed.module]; part != ""])
] if {
	name in {"bcr", "scc"}
}
