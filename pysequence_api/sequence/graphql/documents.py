"""The GraphQL documents. They use no aliases and request only the fields that are used."""

from enum import StrEnum


class Operation(StrEnum):
    """The operation names of Sequence's web application."""

    ACCOUNTS = "SelectSourceAndDestination"
    POD = "PodDrawerContent"
    SUMMARY = "ActivitySummary"
    ACTIVITY = "ActivityLogV2Transfers"
    TRANSFER = "TransferReferenceDrawerContentV2"
    CREATE_PAYMENT = "CreatePayment"


RECENT_TRANSFERS = 5
"""The number of transfers in the details of a pod."""

_OWN_PARTIES = """
    __typename
    ... on Pod { id name icon }
    ... on Port { id name icon }
    ... on Account { id name icon }
"""
_ALL_PARTIES = f"""{_OWN_PARTIES}
    ... on Merchant {{ id name icon }}
    ... on ExternalEntity {{ name }}
"""
_BRIEF_NODE = f"""
  id type status errorReason createdAt
  amount {{ cents }}
  source {{ {_OWN_PARTIES} }}
  destination {{ {_OWN_PARTIES} }}
"""
_FULL_NODE = f"""
  id type status errorReason createdAt updatedAt direction activityType description
  amount {{ cents }}
  source {{ {_ALL_PARTIES} }}
  destination {{ {_ALL_PARTIES} }}
"""
_PAYMENT_STATUS = "{ status createdAt completedAt expectedCompletionDate }"

_ACCOUNTS = """
query SelectSourceAndDestination {
  me {
    memberships {
      organization {
        id
        kycs { id }
        pods { id name type metadata { balance { cents } } }
        ports { id name metadata { balance { cents } } }
        accounts {
          id name type providerType canBeSourceOfTransfer institutionName bankAccountNumber routingNumber
          metadata {
            ... on PlaidMetadata { balance { cents } }
            ... on MethodMetadata { balance { cents } }
          }
        }
      }
    }
  }
}
"""

_POD = f"""
query PodDrawerContent($organizationId: ID!, $id: ID!) {{
  organization(id: $organizationId) {{
    pod(id: $id) {{
      id name bankAccountNumber routingNumber goalAmountInCents
      metadata {{ balance {{ cents }} }}
      liabilityMetadata {{
        __typename
        ... on LiabilityMetadata {{
          name mask subtype balanceLastUpdated nextPaymentDueDate interestRatePercentage
          balance {{ cents }}
          lastStatementBalance {{ cents }}
          nextPaymentMinimumAmount {{ cents }}
        }}
        ... on ErrorMetadata {{ errorCode displayMessage }}
      }}
      transferReferences(first: {RECENT_TRANSFERS}) {{ edges {{ node {{ {_BRIEF_NODE} }} }} }}
    }}
  }}
}}
"""

_SUMMARY = """
query ActivitySummary {
  activitySummary { transferReferencesCount ruleExecutionsCount totalIncomingFundsInCents { cents } }
}
"""

_ACTIVITY = f"""
query ActivityLogV2Transfers(
  $organizationId: ID!, $transferFilter: TransferReferenceFilter!, $after: String, $first: Int!
) {{
  organization(id: $organizationId) {{
    transferReferences(filter: $transferFilter, after: $after, first: $first) {{
      pageInfo {{ endCursor hasNextPage }}
      edges {{ cursor node {{ {_FULL_NODE} }} }}
    }}
  }}
}}
"""

_TRANSFER = f"""
query TransferReferenceDrawerContentV2($organizationId: ID!, $id: ID!) {{
  organization(id: $organizationId) {{
    transferReference(id: $id) {{
      {_FULL_NODE}
      details {{
        __typename
        ... on SimpleTransferDetails {{ status {_PAYMENT_STATUS} }}
        ... on CompoundTransferDetails {{
          pullPaymentStatus {_PAYMENT_STATUS}
          pushPaymentStatus {_PAYMENT_STATUS}
          reversalPaymentStatus {_PAYMENT_STATUS}
        }}
      }}
      ruleDetails {{ triggerType triggerCron }}
    }}
  }}
}}
"""

# The mutation does not return the id of the new transfer, so the newest transfers of the organization are requested.
_CREATE_PAYMENT = f"""
mutation CreatePayment(
  $id: ID!, $source: PaymentAccountInput!, $destination: PaymentAccountInput!, $amount: Int!,
  $isInstantTransfer: Boolean, $achDescription: String
) {{
  forKYC(id: $id) {{
    createPayment(fields: {{
      amount: $amount, source: $source, destination: $destination,
      isInstantTransfer: $isInstantTransfer, achDescription: $achDescription
    }}) {{
      ok {{ organization {{ id transferReferences {{ edges {{ node {{ {_FULL_NODE} }} }} }} }} }}
      error {{ message }}
    }}
  }}
}}
"""

DOCUMENTS: dict[Operation, str] = {
    Operation.ACCOUNTS: _ACCOUNTS,
    Operation.POD: _POD,
    Operation.SUMMARY: _SUMMARY,
    Operation.ACTIVITY: _ACTIVITY,
    Operation.TRANSFER: _TRANSFER,
    Operation.CREATE_PAYMENT: _CREATE_PAYMENT,
}
"""The document of each operation."""
