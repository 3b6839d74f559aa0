// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ClearingHouse} from "../../../contracts/ClearingHouse.sol";
import {CollateralVault} from "../../../contracts/CollateralVault.sol";
import {MarginReservations} from "../../../contracts/MarginReservations.sol";
import {MarginVerifier} from "../../../contracts/MarginVerifier.sol";
import {Ledger} from "../../../contracts/clearing/Ledger.sol";
import {DevnetToken} from "../../../contracts/devnet/DevnetToken.sol";
import {IClearingHouse} from "../../../contracts/interfaces/IClearingHouse.sol";
import {AccountLib} from "../../../contracts/libraries/AccountLib.sol";
import {HashLib} from "../../../contracts/libraries/HashLib.sol";
import {
    LiquidationLeaf,
    MarkLeaf,
    Order,
    Permit,
    Takeover,
    Trade,
    Withdraw
} from "../../../contracts/libraries/Types.sol";
import {LocalBridge} from "./LocalBridge.sol";
import {Trees} from "./Trees.sol";
import {VerifierFixture} from "./VerifierFixture.sol";
import {vm} from "./Vm.sol";

/// @title HouseFixture
/// @notice Every contract of one chain, wired as a deployment wires them, with owners who hold collateral and orders,
/// permits and legs for them.
abstract contract HouseFixture is VerifierFixture {
    uint256 internal constant PRICE_BAND = 0.1e18;
    uint256 internal constant FEE_RATE = 0.0002e18;
    uint256 internal constant FLAT_FEE = 5e18;
    uint256 internal constant FUND_SHARE = 0.2e18;
    /// @dev One part in a million of the mark a second.
    uint256 internal constant MAX_FUNDING_RATE = 1e12;
    uint64 internal constant RAMP_SECONDS = 30;
    uint64 internal constant MAX_AGE = 60;
    uint256 internal constant MARK = 3000e18;
    bytes32 internal immutable ETH = perpetual("ETH");

    ClearingHouse internal house;
    CollateralVault internal vault;
    MarginReservations internal reservations;
    LocalBridge internal bridge;
    DevnetToken internal usdc;
    DevnetToken internal weth;
    /// @dev Whose sizes must sum to zero, and the integrators whose claims are part of the cash.
    bytes32[] internal instruments;
    address[] internal integrators;
    uint256[] internal owners;
    uint256 internal nextNonce;

    function setUp() public virtual override {
        owners = keysOf("owner", 4);
        usdc = new DevnetToken("USD Coin", "USDC", 6);
        weth = new DevnetToken("Wrapped Ether", "WETH", 18);
        bridge = new LocalBridge(usdc);
        instruments.push(ETH);
        super.setUp();
        _deployHouse();
        markLeaves = [HashLib.leaf(markOf("ETH", MARK)), HashLib.leaf(markOf("BTC", 60_000e18))];
        post();
    }

    /// @dev Everything once more, over the tokens that the fixture now holds.
    function redeploy() internal {
        verifier = new MarginVerifier(config());
        _deployHouse();
    }

    function _deployHouse() private {
        house = new ClearingHouse(houseConfig());
        address[] memory collateral = new address[](1);
        collateral[0] = address(weth);
        vault = new CollateralVault(verifier, house, address(usdc), collateral, verifier.RESERVATIONS(), bridge);
        reservations = new MarginReservations(verifier, house, vault);
        assertEq(address(house), verifier.CLEARING_HOUSE(), "predicted clearing house");
        assertEq(address(vault), verifier.VAULT(), "predicted vault");
        assertEq(address(reservations), verifier.RESERVATIONS(), "predicted reservations");
    }

    /// @dev Contracts name each other in constructors: the addresses of the next three are computed beforehand.
    function config() internal override returns (MarginVerifier.Config memory configured) {
        configured = super.config();
        uint256 nonce = vm.getNonce(address(this));
        configured.clearingHouse = vm.computeCreateAddress(address(this), nonce + 1);
        configured.vault = vm.computeCreateAddress(address(this), nonce + 2);
        configured.reservations = vm.computeCreateAddress(address(this), nonce + 3);
    }

    function houseConfig() internal view returns (Ledger.Config memory) {
        return Ledger.Config({
            name: NAME,
            version: VERSION,
            verifier: verifier,
            vault: CollateralVault(verifier.VAULT()),
            reservations: verifier.RESERVATIONS(),
            priceBand: PRICE_BAND,
            feeRate: FEE_RATE,
            flatFee: FLAT_FEE,
            fundShare: FUND_SHARE,
            maxFundingRate: MAX_FUNDING_RATE,
            rampSeconds: RAMP_SECONDS,
            maxAge: MAX_AGE
        });
    }

    // --- owners ----------------------------------------------------------------------------------------------------

    function ownerOf(uint256 index) internal view returns (address) {
        return vm.addr(owners[index]);
    }

    /// @return The cross account of an owner.
    function idOf(uint256 index) internal view returns (bytes32) {
        return accountOf(ownerOf(index), 0);
    }

    /// @param amount Whole USDC.
    function fund(uint256 index, uint256 amount) internal {
        deposit(index, usdc, amount * 1e6);
    }

    function deposit(uint256 index, DevnetToken token, uint256 amount) internal {
        address owner = ownerOf(index);
        token.mint(owner, amount);
        vm.startPrank(owner);
        token.approve(address(vault), amount);
        vault.deposit(idOf(index), address(token), amount, new uint64[](0));
        vm.stopPrank();
    }

    function permitted(
        bytes32 accountId,
        bytes32 counterpartyId,
        bytes32 action
    ) internal returns (Permit memory permit) {
        permit = permitOf(accountId, action, nextNonce++);
        permit.counterpartyId = counterpartyId;
    }

    function signed(Permit memory permit) internal view returns (bytes memory) {
        return quorum(digestOf(permit));
    }

    // --- marks -----------------------------------------------------------------------------------------------------

    function markOf(
        bytes32 asset,
        uint256 price,
        int256 fundingIndex,
        uint64 settledAt
    ) internal pure returns (MarkLeaf memory) {
        return MarkLeaf(asset, price, fundingIndex, price / 10, price / 10, settledAt);
    }

    /// @dev A new batch of now with this mark, and the one of BTC.
    function postMark(MarkLeaf memory mark) internal {
        markLeaves = [HashLib.leaf(mark), HashLib.leaf(markOf("BTC", 60_000e18))];
        pass(EPOCH_SECONDS);
        post();
    }

    function markProof(MarkLeaf memory mark) internal view returns (bytes32[] memory) {
        return Trees.proof(marksTree(), HashLib.leaf(mark));
    }

    /// @dev Posts ETH's mark with this funding index, and settles the funding of these accounts.
    function accrue(int256 fundingIndex, bytes32[] memory accountIds) internal {
        MarkLeaf memory mark = markOf(ETH, MARK, fundingIndex, 0);
        postMark(mark);
        house.accrue(mark, markProof(mark), accountIds);
    }

    // --- orders and matches ----------------------------------------------------------------------------------------

    function orderOf(uint256 index, int256 size, uint256 price) internal returns (Order memory) {
        return Order({
            accountId: idOf(index),
            asset: ETH,
            size: size,
            limitPrice: price,
            maxFee: type(uint256).max,
            nonce: nextNonce++,
            deadline: uint64(block.timestamp) + 300,
            submitter: address(0)
        });
    }

    function digestOf(Order memory order) internal view returns (bytes32) {
        bytes32 separator =
            HashLib.chainDomain(keccak256(bytes(NAME)), keccak256(bytes(VERSION)), block.chainid, address(house));
        return HashLib.digest(separator, HashLib.hash(order));
    }

    /// @return m Of two orders that fit each other, permitted; positive `size` where the maker buys.
    function matchOf(
        uint256 maker,
        uint256 taker,
        int256 size,
        uint256 price
    ) internal returns (IClearingHouse.Match memory m) {
        return matchOf(maker, taker, size, price, markOf("ETH", MARK));
    }

    /// @dev The same in the instrument of a posted mark.
    function matchOf(
        uint256 maker,
        uint256 taker,
        int256 size,
        uint256 price,
        MarkLeaf memory mark
    ) internal returns (IClearingHouse.Match memory m) {
        m.maker = orderOf(maker, size, price);
        m.taker = orderOf(taker, -size, price);
        (m.maker.asset, m.taker.asset) = (mark.asset, mark.asset);
        (m.size, m.price) = (size, price);
        m.mark = mark;
        m.markProof = markProof(mark);
        resign(m, owners[maker], owners[taker]);
    }

    /// @dev Owners and quorum sign what the match now says.
    function resign(IClearingHouse.Match memory m, uint256 makerKey, uint256 takerKey) internal {
        m.makerSignature = sign(digestOf(m.maker), makerKey);
        m.takerSignature = sign(digestOf(m.taker), takerKey);
        bytes32 action = HashLib.hash(Trade(HashLib.hash(m.maker), HashLib.hash(m.taker), m.size, m.price));
        m.permit = permitted(m.maker.accountId, m.taker.accountId, action);
        m.permitSignatures = signed(m.permit);
    }

    function trade(uint256 maker, uint256 taker, int256 size, uint256 price) internal {
        house.matchOrders(matchOf(maker, taker, size, price));
    }

    /// @dev At the price of a posted mark, in its instrument.
    function trade(uint256 maker, uint256 taker, int256 size, MarkLeaf memory mark) internal {
        house.matchOrders(matchOf(maker, taker, size, mark.price, mark));
    }

    // --- legs ------------------------------------------------------------------------------------------------------

    /// @return leg Listed in the next batch, not posted yet.
    function legOf(
        uint256 index,
        int256 closeLimit,
        uint256 maxConcession
    ) internal returns (LiquidationLeaf memory leg) {
        leg = LiquidationLeaf({
            accountId: idOf(index),
            chainId: uint64(block.chainid),
            asset: ETH,
            closeLimit: closeLimit,
            markPrice: MARK,
            maxConcession: maxConcession,
            auctionStart: uint64(block.timestamp),
            depositTarget: type(uint256).max,
            counterparty: 0
        });
        legLeaves = [HashLib.leaf(leg)];
    }

    /// @dev Lists a leg in a new batch of now.
    function postLeg(LiquidationLeaf memory leg) internal {
        legLeaves = [HashLib.leaf(leg)];
        pass(EPOCH_SECONDS);
        post();
    }

    function legProof(LiquidationLeaf memory leg) internal view returns (bytes32[] memory) {
        return Trees.proof(legsTree(), HashLib.leaf(leg));
    }

    function takeover(uint256 taker, LiquidationLeaf memory leg, uint256 size) internal returns (Permit memory) {
        return permitted(idOf(taker), 0, HashLib.hash(Takeover(idOf(taker), leg.accountId, leg.asset, size)));
    }

    /// @dev `taker` takes over `size` of a posted leg with a permit for it.
    function take(uint256 taker, LiquidationLeaf memory leg, uint256 size) internal {
        take(taker, leg, size, "");
    }

    /// @dev The same, and must fail with `refusal` where one is given.
    function take(uint256 taker, LiquidationLeaf memory leg, uint256 size, bytes memory refusal) internal {
        Permit memory permit = takeover(taker, leg, size);
        bytes memory signatures = signed(permit);
        bytes32[] memory proof = legProof(leg);
        vm.prank(ownerOf(taker));
        if (refusal.length != 0) expectError(refusal);
        house.liquidate(leg, proof, idOf(taker), size, permit, signatures);
    }

    function deleverage(LiquidationLeaf memory leg, uint256 size, bytes memory refusal) internal {
        bytes32[] memory proof = legProof(leg);
        if (refusal.length != 0) expectError(refusal);
        house.deleverage(leg, proof, size);
    }

    // --- withdrawals -----------------------------------------------------------------------------------------------

    function withdraw(uint256 index, address token, uint256 amount) internal {
        withdraw(index, token, amount, "");
    }

    /// @dev With a permit for it; must fail with `refusal` where one is given.
    function withdraw(uint256 index, address token, uint256 amount, bytes memory refusal) internal {
        Withdraw memory action = Withdraw(idOf(index), token, amount, ownerOf(index));
        Permit memory permit = permitted(idOf(index), 0, HashLib.hash(action));
        bytes memory signatures = signed(permit);
        vm.prank(ownerOf(index));
        if (refusal.length != 0) expectError(refusal);
        vault.withdraw(action, permit, signatures);
    }

    // --- what must hold --------------------------------------------------------------------------------------------

    /// @return ids Every account these tests use: reserved ones, owners' cross and isolated ones, integrators' claims.
    function everyone() internal view returns (bytes32[] memory ids) {
        ids = new bytes32[](3 + 2 * owners.length + integrators.length);
        (ids[0], ids[1], ids[2]) = (AccountLib.FUND, AccountLib.FEES, AccountLib.CLEARING);
        for (uint256 i; i < owners.length; ++i) {
            ids[3 + 2 * i] = idOf(i);
            ids[4 + 2 * i] = accountOf(ownerOf(i), 1);
        }
        for (uint256 i; i < integrators.length; ++i) {
            ids[3 + 2 * owners.length + i] = AccountLib.claims(integrators[i]);
        }
    }

    /// @dev CM-20, CM-30 and CM-31 over all of these.
    function assertSums(string memory when) internal view {
        bytes32[] memory ids = everyone();
        int256 cash;
        uint256 balances;
        for (uint256 i; i < ids.length; ++i) {
            cash += house.cashOf(ids[i]);
            balances += vault.balanceOf(ids[i], address(weth));
        }
        for (uint256 j; j < instruments.length; ++j) {
            int256 sizes;
            for (uint256 i; i < ids.length; ++i) {
                sizes += house.positionOf(ids[i], instruments[j]);
            }
            assertEq(sizes, int256(0), string.concat("CM-31: sizes sum to zero, ", when));
        }
        assertEq(
            cash,
            int256(vault.settlementHeld() * vault.scaleOf(address(usdc))) + house.claims(),
            string.concat("CM-30: cash is the token held and the claims, ", when)
        );
        assertEq(house.totalCash(), cash, string.concat("CM-30: total cash, ", when));
        assertEq(vault.totalOf(address(weth)), balances, string.concat("CM-20: the balances' sum, ", when));
        assertAtMost(balances, weth.balanceOf(address(vault)), string.concat("CM-20: tokens cover balances, ", when));
        assertAtMost(
            vault.settlementHeld(), usdc.balanceOf(address(vault)), string.concat("CM-20: tokens cover cash, ", when)
        );
    }
}
