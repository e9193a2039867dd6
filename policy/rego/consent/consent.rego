# METADATA
# title: Consent
# description: Whether the person agreed, to these words, for this purpose, and still agrees.
# scope: package
# schemas:
#   - input: schema.question
# custom:
#   code: consent
#   article: GDPR Art. 6(1)(a), 7
package vocustody.consent

import data.vocustody.law

# METADATA
# title: What a person is asked about, each by itself
# scope: rule
# custom:
#   code: consent.purposes
#   article: GDPR Art. 6(1)(a), 7(2); EDPB Guidelines 05/2020, 42-45
purposes := {"analytics", "human_review", "training", "transcribe_and_answer"}

# METADATA
# title: Consent is live
# description: Granted for this purpose and tenant, to accepted words, and not expired.
# scope: rule
# custom:
#   code: consent.live
#   article: GDPR Art. 4(11), 6(1)(a)
live if {
	purpose_known
	granted
	unexpired
	notice_accepted
}

# METADATA
# title: Never asked
# scope: rule
# custom:
#   code: consent.missing
#   article: GDPR Art. 7(1)
reasons contains "consent.missing" if not expressed

# METADATA
# title: The person said no
# scope: rule
# custom:
#   code: consent.refused
#   article: GDPR Art. 4(11)
reasons contains "consent.refused" if {
	expressed
	input.consent.state == "refused"
}

# METADATA
# title: The person took it back
# scope: rule
# custom:
#   code: consent.withdrawn
#   article: GDPR Art. 7(3)
reasons contains "consent.withdrawn" if {
	expressed
	input.consent.state == "withdrawn"
}

# METADATA
# title: Given too long ago
# scope: rule
# custom:
#   code: consent.expired
#   article: GDPR Art. 5(1)(e)
reasons contains "consent.expired" if {
	granted
	not unexpired
}

# METADATA
# title: The clock has said so already
# scope: rule
# custom:
#   code: consent.expired
#   article: GDPR Art. 5(1)(e)
reasons contains "consent.expired" if {
	expressed
	input.consent.state == "expired"
}

# METADATA
# title: Given to words that are no longer accepted
# scope: rule
# custom:
#   code: notice.unknown
#   article: GDPR Art. 7(2), 13
reasons contains "notice.unknown" if {
	granted
	not notice_accepted
}

# METADATA
# title: Not a purpose that anybody is asked about
# scope: rule
# custom:
#   code: purpose.unknown
#   article: GDPR Art. 5(1)(b)
reasons contains "purpose.unknown" if not purpose_known

# METADATA
# title: Explicit consent to a transfer is live
# description: Its own purpose and its own words; a consent to the service is none to a transfer.
# scope: rule
# custom:
#   code: consent.transfer_live
#   article: GDPR Art. 49(1)(a)
transfer_live if {
	law.capable
	input.transfer_consent.purpose == "transfer_abroad"
	input.transfer_consent.tenant == input.tenant
	input.transfer_consent.state in {"granted", "renewed"}
	input.transfer_consent.at <= input.now
	input.transfer_consent.expires_at > input.now
	input.transfer_consent.notice_version in data.vocustody.notices
}

# A consent for another purpose, of another tenant or from the future is none at all.
expressed if {
	input.consent.state in {"expired", "granted", "refused", "renewed", "withdrawn"}
	input.consent.purpose == input.purpose
	input.consent.tenant == input.tenant
	input.consent.at <= input.now
}

granted if {
	expressed
	input.consent.state in {"granted", "renewed"}
}

unexpired if input.consent.expires_at > input.now

notice_accepted if input.consent.notice_version in data.vocustody.notices

purpose_known if input.purpose in purposes
