// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Types
/// @notice What is signed, proven and stored. Field names and order are the EIP-712 types: they never change.
/// @dev USD values, prices and sizes are integers scaled by 1e18, a price is per whole unit; token amounts have the
/// token's decimals; times are unix seconds. `accountId` is owner (20 bytes) followed by sub-account (12 bytes).

/// @notice The margin of every account at one cut, signed once and posted on every chain.
struct MarginBatch {
    uint64 epoch;
    uint64 timestamp;
    uint64 validUntil;
    bytes32 accountsRoot;
    bytes32 marksRoot;
    bytes32 liquidationsRoot;
    bytes32 settlementsRoot;
    bytes32 cutHash;
    bytes32 parametersHash;
    uint64 attestorSetId;
}

/// @notice Where one chain was read: a final block for holdings, a head for price feeds.
struct ChainCut {
    uint64 chainId;
    uint64 number;
    bytes32 blockHash;
    uint64 time;
    uint64 headNumber;
    uint64 headTime;
    bool late;
}

struct MarginLeaf {
    bytes32 accountId;
    uint64 chainId;
    int256 equity;
    uint256 initialMargin;
    uint256 maintenanceMargin;
    uint256 escapeLimit;
}

struct MarkLeaf {
    bytes32 asset;
    uint256 price;
    int256 fundingIndex;
    uint256 longRequirement;
    uint256 shortRequirement;
    uint64 settledAt;
}

struct LiquidationLeaf {
    bytes32 accountId;
    uint64 chainId;
    bytes32 asset;
    int256 closeLimit;
    uint256 markPrice;
    uint256 maxConcession;
    uint64 auctionStart;
    uint256 depositTarget;
    bytes32 counterparty;
}

struct SettlementLeaf {
    uint64 cycle;
    bytes32 accountId;
    uint64 chainId;
    int256 cashDelta;
}

/// @notice The quorum's signature on exactly one act on exactly one chain.
struct Permit {
    bytes32 accountId;
    bytes32 counterpartyId;
    bytes32 actionHash;
    uint256 nonce;
    uint64 deadline;
    uint64 attestorSetId;
}

struct Withdraw {
    bytes32 accountId;
    address token;
    uint256 amount;
    address receiver;
}

/// @notice One match. `size` is the maker's: positive where the maker buys.
struct Trade {
    bytes32 makerOrder;
    bytes32 takerOrder;
    int256 size;
    uint256 price;
}

/// @notice `submitter` may send the reservation as the owner may; zero means the owner alone.
struct Reserve {
    bytes32 accountId;
    address integrator;
    uint256 amount;
    uint256 cashPart;
    uint64 until;
    address submitter;
}

struct Takeover {
    bytes32 accountId;
    bytes32 liquidated;
    bytes32 asset;
    uint256 size;
}

struct Move {
    bytes32 from;
    bytes32 to;
    bytes32 asset;
    int256 amount;
}

struct Unlink {
    bytes32 accountId;
    uint64 chainId;
}

/// @notice What an owner signs to ask the attestors for a permit.
struct PermitRequest {
    bytes32 accountId;
    bytes32 actionHash;
    uint256 nonce;
    uint64 deadline;
}

/// @notice `size` positive buys, negative sells; `maxFee` in USD per whole unit; `submitter` zero means anyone.
struct Order {
    bytes32 accountId;
    bytes32 asset;
    int256 size;
    uint256 limitPrice;
    uint256 maxFee;
    uint256 nonce;
    uint64 deadline;
    address submitter;
}

/// @notice What a margin query answers. Ages are seconds at the block of the question.
/// @param stateAge Age of the oldest cut entry among the chains that were not late.
/// @param late Whether any chain of the cut was late.
struct MarginStatus {
    bool proven;
    int256 equity;
    uint256 initialMargin;
    uint256 maintenanceMargin;
    uint64 epoch;
    uint256 markAge;
    uint256 stateAge;
    bool late;
}

/// @notice A posted batch as a chain holds it.
/// @param stateTime Oldest cut time among chains that were not late.
/// @param cutNumber Block number of this chain in the cut.
/// @param postedAt Block time of the posting.
/// @param resumedAt Block time of the first posting after the last silence longer than twice the heartbeat.
/// @param late Whether any chain of the cut was late.
struct HeldBatch {
    uint64 epoch;
    uint64 timestamp;
    uint64 validUntil;
    uint64 stateTime;
    uint64 cutNumber;
    uint64 postedAt;
    uint64 resumedAt;
    bool late;
    bytes32 digest;
    bytes32 accountsRoot;
    bytes32 marksRoot;
    bytes32 liquidationsRoot;
    bytes32 settlementsRoot;
}

/// @notice A reservation of margin. Lapsed once a block's time is greater than `until`.
struct Reservation {
    uint256 amount;
    uint256 cashPart;
    uint64 until;
}
