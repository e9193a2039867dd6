# METADATA
# title: Transfer
# description: |
#   On what ground this data may go to a processor abroad. Whatever is at home under each law needs
#   none. Abroad all must hold: the deployment names the ground, each law that says where admits it for this class
#   of data, it exists, the controller has not refused it, and the bundle is fresh.
# scope: package
# schemas:
#   - input: schema.question
# custom:
#   code: transfer
#   article: GDPR Art. 44-49
package vocustody.transfer

import data.vocustody.consent
import data.vocustody.law

# METADATA
# title: The bundle's list of transfers is fresh
# description: A day old, it may name what a court has struck down; home service goes on.
# scope: rule
# custom:
#   code: transfer.fresh
#   article: GDPR Art. 44, 45(5)
fresh if input.bundle_age <= 86400

# Where no law of the person's is known, nothing leaves the cell's own region.
confined := count(law.unlisted) > 0

# METADATA
# title: Grounds that this controller leaves open to this person, the strongest first
# scope: rule
# custom:
#   code: transfer.grounds
#   article: GDPR Art. 28(3)(a), 45, 46, 47, 49(1)(a)
grounds := [ground |
	some ground in ["adequacy", "scc", "bcr", "explicit-consent"]
	agreed(ground)
	unrefused(ground)
]

agreed(ground) if ground in {"adequacy", "scc", "bcr"}

agreed(_) if {
	consent.transfer_live
	every purpose in object.get(data.vocustody.tenants, [input.tenant, "refused_purposes"], []) {
		purpose != "transfer_abroad"
	}
}

unrefused(ground) if object.get(refused, ground, false) == false

refused := {ground: true |
	some ground in object.get(data.vocustody.tenants, [input.tenant, "refused_grounds"], [])
}

# METADATA
# title: Those of some rows to which this data may go, each with the strongest ground
# description: One ground must hold under every law under which the processor stands abroad.
# scope: rule
# custom:
#   code: transfer.labelled
#   article: GDPR Art. 44-49
labelled(rows) := [{"row": row, "transfer": label} |
	fresh
	confined == false
	count(data.vocustody.grounds) > 0
	some row in rows

	# Not [0]: the embedded engine is slow to index what it has just made.
	some at, label in [way.label |
		some ways in opened
		some way in ways[row.id]
		usable(way)
		every place in others {
			open(place, row, way.ground)
		}
	]
	at == 0
]

# The ways that each law leaves open to this class of data, in the order of the codes.
opened := [ways |
	some code in law.places
	ways := object.get(data.vocustody.ways, [data.vocustody.index.kin[code], input.data_class], {})
]

# Under one law alone nothing else has to hold.
others := [{"law": rules[code], "ways": opened[at]} | some at, code in law.places; count(law.places) > 1]

rules := data.vocustody.jurisdictions

open(place, row, _) if law.home(row.region, place.law)

open(place, row, ground) if {
	some way in object.get(place.ways, row.id, [])
	way.ground == ground
	usable(way)
}

usable(way) if {
	way.ground in grounds
	way.expires > input.now
}
