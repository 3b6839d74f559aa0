"""Bodies and answers of the HTTP interface as typed models; /openapi.json is made from them, and clients read by them.

Amounts are exact integers in Python and decimal strings in JSON, ids and addresses are bytes and 0x-hex, names are
snake_case and camelCase. Where the protocol has a value of its own (a leaf, a permit) a field holds that of
`keeper.state`.
"""

from .accounts import Account, AccountProof, Holdings, Live, MarginAccount, MarkProof, Reservation, SignedPermit
from .attest import Added, LiveItems, LiveQuestion, RefusedLegs, Signature
from .deployment import Deployment, Limits
from .netting import NettingFigures
from .node import Health, Liquidations, Ready, Status, Unready
from .problem import Problem
from .whatif import (
    MOST_CHANGES,
    CashChange,
    Change,
    DepositChange,
    ReserveChange,
    TradeChange,
    WhatIf,
    WhatIfRequest,
    WithdrawChange,
)

__all__ = [
    "MOST_CHANGES",
    "Account",
    "AccountProof",
    "Added",
    "CashChange",
    "Change",
    "Deployment",
    "DepositChange",
    "Health",
    "Holdings",
    "Limits",
    "Liquidations",
    "Live",
    "LiveItems",
    "LiveQuestion",
    "MarginAccount",
    "MarkProof",
    "NettingFigures",
    "Problem",
    "Ready",
    "RefusedLegs",
    "Reservation",
    "ReserveChange",
    "Signature",
    "SignedPermit",
    "Status",
    "TradeChange",
    "Unready",
    "WhatIf",
    "WhatIfRequest",
    "WithdrawChange",
]
