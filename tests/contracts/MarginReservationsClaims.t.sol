// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {AssetLib} from "../../contracts/libraries/AssetLib.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {Events} from "../../contracts/libraries/Events.sol";
import {LiquidationLeaf, Reservation} from "../../contracts/libraries/Types.sol";
import {SettlementFixture} from "./base/SettlementFixture.sol";
import {BlockingToken} from "./base/Tokens.sol";
import {vm} from "./base/Vm.sol";

/// @notice Claims on reservations (CM-15): cash parts at once as far as tokens reach, the rest once a quorum found net cash
/// for it, and whoever is dishonest takes the reservation and nobody else's money.
contract MarginReservationsClaimsTest is SettlementFixture {
    uint256 private constant ALICE = 0;
    uint256 private constant BOB = 1;
    uint256 private constant TAKER = 2;
    address private constant LENDER = address(0x1E4D);
    address private constant OTHER = address(0x07E4);

    function setUp() public override {
        super.setUp();
        integrators = [LENDER, OTHER, ownerOf(ALICE)];
    }

    // --- what is claimed -------------------------------------------------------------------------------------------

    /// @notice The cash part first; it is paid at once. The reservation, the account's cash and the claims move together.
    function test_CM15_claim_TheCashPartIsPaidAtOnce() public {
        fund(ALICE, 1000);
        reserve(ALICE, LENDER, 100e18, 60e18);
        vm.expectEmit(true, true, true, true, address(reservations));
        emit Events.ReservationSet(idOf(ALICE), LENDER, Reservation(60e18, 20e18, type(uint64).max));
        vm.expectEmit(true, true, true, true, address(reservations));
        emit Events.OwedSet(idOf(ALICE), LENDER, 40e18, 0);
        vm.expectEmit(true, true, true, true, address(reservations));
        emit Events.Claimed(idOf(ALICE), LENDER, 40e18);
        vm.expectEmit(true, true, true, true, address(reservations));
        emit Events.OwedSet(idOf(ALICE), LENDER, 0, 0);
        vm.expectEmit(true, true, true, true, address(reservations));
        emit Events.PaidOut(idOf(ALICE), LENDER, 40e6);
        claim(ALICE, LENDER, 40e18);
        _holds(60e18, 20e18);
        assertEq(usdc.balanceOf(LENDER), 40e6, "paid");
        assertEq(house.cashOf(idOf(ALICE)), 960e18, "the account's cash");
        assertEq(house.cashOf(AccountLib.claims(LENDER)), 0, "nothing is left of the claim");
        assertEq(vault.settlementHeld(), 960e6, "held");
        assertSums("after a claim that was paid");
    }

    /// @notice The rest waits for a quorum, whatever cash the owner has here.
    function test_CM15_claim_TheRestWaitsForItsClearance() public {
        fund(ALICE, 70);
        fund(BOB, 1000);
        reserve(ALICE, LENDER, 100e18, 60e18);
        claim(ALICE, LENDER, 100e18);
        _holds(0, 0);
        reservations.payout(idOf(ALICE), LENDER);
        assertEq(usdc.balanceOf(LENDER), 60e6, "the cash part");
        _owes(LENDER, 0, 40e18);
        clear(ALICE, LENDER, 10e18);
        assertEq(usdc.balanceOf(LENDER), 70e6, "and 10 that the owner had besides");
        _owes(LENDER, 0, 30e18);
        assertEq(reservations.unpaidOf(idOf(ALICE)), 30e18, "unpaid");
        assertEq(house.cashOf(idOf(ALICE)), -30e18, "the account owes");
        assertEq(house.cashOf(AccountLib.claims(LENDER)), 30e18, "the integrator is owed");
        assertSums("after a claim that was paid in part");
    }

    /// @notice The cash part is paid out of what the vault has, though the owner's cash is on another chain.
    function test_CM15_claim_TheCashPartOutOfTheChainsTokens() public {
        fund(BOB, 50);
        reserve(ALICE, LENDER, 100e18, 60e18);
        claim(ALICE, LENDER, 100e18);
        assertEq(usdc.balanceOf(LENDER), 50e6, "as far as tokens reach");
        _owes(LENDER, 10e18, 40e18);
        assertEq(house.cashOf(idOf(ALICE)), -100e18, "booked in full");
        fund(BOB, 100);
        reservations.payout(idOf(ALICE), LENDER);
        assertEq(usdc.balanceOf(LENDER), 60e6, "the rest of the cash part");
        _owes(LENDER, 0, 40e18);
        assertSums("after the cash part");
    }

    function test_CM15_claim_RevertWhen_MoreThanIsReservedHere() public {
        reserve(ALICE, LENDER, 100e18, 0);
        bytes32 account = idOf(ALICE);
        vm.startPrank(LENDER);
        expectError(abi.encodeWithSelector(Errors.ZeroAmount.selector));
        reservations.claim(account, 0);
        expectError(abi.encodeWithSelector(Errors.ClaimExceeds.selector, 100e18 + 1, 100e18));
        reservations.claim(account, 100e18 + 1);
        reservations.release(account, 30e18);
        reservations.claim(account, 50e18);
        expectError(abi.encodeWithSelector(Errors.ClaimExceeds.selector, 20e18 + 1, 20e18));
        reservations.claim(account, 20e18 + 1);
        vm.stopPrank();
        expectError(abi.encodeWithSelector(Errors.ClaimExceeds.selector, 1, 0));
        reservations.claim(account, 1);
    }

    /// @notice Claims on a lapsed reservation are none, those made before stay.
    function test_CM15_claim_RevertWhen_Lapsed() public {
        reserve(ALICE, LENDER, 100e18, 0);
        claim(ALICE, LENDER, 40e18);
        // `reserve` of this fixture ends at the end of time.
        vm.warp(uint256(type(uint64).max) + 1);
        bytes32 account = idOf(ALICE);
        vm.prank(LENDER);
        expectError(abi.encodeWithSelector(Errors.ClaimExceeds.selector, 1, 0));
        reservations.claim(account, 1);
        _owes(LENDER, 0, 40e18);
    }

    // --- the rest waits for the owner's cash -----------------------------------------------------------------------

    /// @notice No vault full of other people's tokens pays it; a settlement cycle does.
    function test_CM15_payout_OnceACycleBroughtTheOwnersCash() public {
        fund(BOB, 1000);
        reserve(ALICE, LENDER, 100e18, 0);
        claim(ALICE, LENDER, 100e18);
        reservations.payout(idOf(ALICE), LENDER);
        assertEq(usdc.balanceOf(LENDER), 0, "not with Bob's money");
        settle(1, idOf(ALICE), 30e18);
        clear(ALICE, LENDER, 30e18);
        assertEq(usdc.balanceOf(LENDER), 30e6, "what the cycle brought");
        settle(2, idOf(ALICE), 100e18);
        vm.expectEmit(true, true, true, true, address(reservations));
        emit Events.OwedSet(idOf(ALICE), LENDER, 70e18, 0);
        vm.expectEmit(true, true, true, true, address(reservations));
        emit Events.PaidOut(idOf(ALICE), LENDER, 70e6);
        clear(ALICE, LENDER, 100e18);
        assertEq(usdc.balanceOf(LENDER), 100e6, "all of it");
        _owes(LENDER, 0, 0);
        assertEq(reservations.unpaidOf(idOf(ALICE)), 0, "nothing unpaid");
        assertEq(house.cashOf(idOf(ALICE)), 30e18, "what stays with the owner");
        reservations.payout(idOf(ALICE), LENDER);
        assertEq(usdc.balanceOf(LENDER), 100e6, "not twice");
        assertSums("after payouts");
    }

    /// @notice As far as tokens reach: what this chain owes others is not there for it.
    function test_CM15_payout_NotOutOfWhatIsOwedToOtherChains() public {
        fund(ALICE, 100);
        fund(BOB, 100);
        settle(1, idOf(BOB), -100e18);
        settle(2, AccountLib.FEES, -80e18 - 1);
        assertEq(vault.available(), 20e6 - 1, "what is available");
        reserve(ALICE, LENDER, 100e18, 50e18);
        claim(ALICE, LENDER, 100e18);
        assertEq(usdc.balanceOf(LENDER), 20e6 - 1, "so much was paid");
        _owes(LENDER, 30e18 + 1e12, 50e18);
        clear(ALICE, LENDER, 50e18);
        _owes(LENDER, 80e18 + 1e12, 0);
        settle(3, AccountLib.FEES, 60e18);
        reservations.payout(idOf(ALICE), LENDER);
        assertEq(usdc.balanceOf(LENDER), 80e6 - 1, "as far as tokens reach");
        _owes(LENDER, 20e18 + 1e12, 0);
        assertSums("after payouts short of tokens");
    }

    /// @dev Sequence 32 of the protocol's attacks: an integrator with a reservation on a defaulted owner, and no way to
    /// be paid. The owner's collateral is sold by a leg, and the claim is paid out of that.
    function test_sequence32_ADefaultedOwnersCollateralPaysTheIntegrator() public {
        deposit(ALICE, weth, 1e18);
        fund(TAKER, 10_000);
        reserve(ALICE, LENDER, 2000e18, 0);
        claim(ALICE, LENDER, 2000e18);
        assertEq(usdc.balanceOf(LENDER), 0, "nothing yet");
        LiquidationLeaf memory leg = legOf(ALICE, 1e18, 0);
        leg.asset = AssetLib.tokenId(CHAIN_A, address(weth));
        postLeg(leg);
        take(TAKER, leg, 0.5e18);
        clear(ALICE, LENDER, 1497.5e18);
        assertEq(usdc.balanceOf(LENDER), 1497.5e6, "what half of it brought, less half the flat fee");
        take(TAKER, leg, 0.5e18);
        clear(ALICE, LENDER, 502.5e18);
        assertEq(usdc.balanceOf(LENDER), 2000e6, "all");
        assertEq(house.cashOf(idOf(ALICE)), 995e18, "the rest is the owner's");
        assertSums("after a default");
    }

    // --- nobody else's money ---------------------------------------------------------------------------------------

    /// @notice An owner with collateral only, who is his own integrator, gets no settlement token for it.
    function test_CM15_claim_AnOwnerWhoIsHisOwnIntegratorTakesNothing() public {
        fund(BOB, 1000);
        deposit(ALICE, weth, 1e18);
        reserve(ALICE, ownerOf(ALICE), 2000e18, 0);
        claim(ALICE, ownerOf(ALICE), 2000e18);
        reservations.payout(idOf(ALICE), ownerOf(ALICE));
        assertEq(usdc.balanceOf(ownerOf(ALICE)), 0, "nothing");
        assertEq(vault.settlementHeld(), 1000e6, "Bob's stays");
        withdraw(BOB, address(usdc), 1000e6);
        assertSums("after a claim on himself");
    }

    /// @notice Nor by two: what is promised to one as his cash part does not pay the other's rest.
    function test_CM15_claim_SeveralIntegratorsShareWhatTheOwnerHas() public {
        fund(BOB, 1000);
        fund(ALICE, 100);
        settle(1, idOf(BOB), -1000e18);
        settle(2, AccountLib.FEES, -100e18);
        reserve(ALICE, LENDER, 60e18, 60e18);
        reserve(ALICE, OTHER, 100e18, 0);
        claim(ALICE, LENDER, 60e18);
        claim(ALICE, OTHER, 100e18);
        assertEq(usdc.balanceOf(LENDER) + usdc.balanceOf(OTHER), 0, "no tokens are available yet");
        settle(3, AccountLib.FEES, 1100e18);
        clear(ALICE, OTHER, 40e18);
        assertEq(usdc.balanceOf(OTHER), 40e6, "what the owner has beyond the other's cash part");
        reservations.payout(idOf(ALICE), LENDER);
        assertEq(usdc.balanceOf(LENDER), 60e6, "the cash part");
        reservations.payout(idOf(ALICE), OTHER);
        assertEq(usdc.balanceOf(OTHER), 40e6, "no more than the owner had");
        _owes(OTHER, 0, 60e18);
        assertEq(reservations.unpaidOf(idOf(ALICE)), 60e18, "unpaid");
        assertEq(house.cashOf(idOf(ALICE)), -60e18, "and owed by the owner");
        assertSums("after two claims");
    }

    /// @notice One integrator's claims on two owners do not mix.
    function test_CM15_payout_EachOwnersCashPaysItsOwnClaims() public {
        fund(BOB, 500);
        reserve(ALICE, LENDER, 100e18, 0);
        reserve(BOB, LENDER, 100e18, 0);
        claim(ALICE, LENDER, 100e18);
        claim(BOB, LENDER, 100e18);
        clear(BOB, LENDER, 200e18);
        assertEq(usdc.balanceOf(LENDER), 100e6, "Bob's");
        reservations.payout(idOf(ALICE), LENDER);
        assertEq(usdc.balanceOf(LENDER), 100e6, "not Alice's with Bob's");
        assertEq(house.cashOf(AccountLib.claims(LENDER)), 100e18, "the claim on Alice");
        fund(ALICE, 100);
        clear(ALICE, LENDER, 100e18);
        assertEq(usdc.balanceOf(LENDER), 200e6, "with her own");
        assertSums("after two owners");
    }

    /// @notice Whatever is reserved, claimed and filled, with quorums that promise and clear what CM-21 lets them: no more
    /// is paid than the owner brought.
    /// forge-config: default.fuzz.runs = 128
    function testFuzz_CM15_NobodyElsesMoney(uint256[6] memory amounts, uint256[6] memory fills, uint256 seed) public {
        fund(BOB, 1_000_000);
        uint256 brought;
        for (uint256 i; i < amounts.length; ++i) {
            address integrator = integrators[(seed >> (8 * i)) % 3];
            uint256 amount = bound(amounts[i], 1, 1e24);
            uint256 fill = bound(fills[i], 1, 1e12);
            fund(ALICE, 1);
            deposit(ALICE, usdc, fill);
            brought += fill + 1e6;
            // A cash part out of what the owner has: what CM-21 lets pass.
            int256 free = house.cashOf(idOf(ALICE));
            uint256 cashPart = free > 0 ? amount % (uint256(free) + 1) : 0;
            reserve(ALICE, integrator, amount, cashPart < amount ? cashPart : amount);
            claim(ALICE, integrator, amount);
            _clearWhatHeHas(integrators[i % 3]);
            reservations.payout(idOf(ALICE), integrators[i % 3]);
            uint256 paid;
            uint256 owed;
            for (uint256 j; j < 3; ++j) {
                paid += usdc.balanceOf(integrators[j]);
                owed += uint256(house.cashOf(AccountLib.claims(integrators[j])));
                (uint256 cash, uint256 rest) = reservations.owedOf(idOf(ALICE), integrators[j]);
                assertEq(
                    house.cashOf(AccountLib.claims(integrators[j])), int256(cash + rest), "claims are what is owed"
                );
            }
            assertEq(reservations.unpaidOf(idOf(ALICE)), owed, "unpaid is what is owed");
            assertAtMost(paid, brought, "CM-15: no more than the owner brought");
            assertSums("in the course of claims");
        }
    }

    // --- how it is paid --------------------------------------------------------------------------------------------

    /// @notice In whole token amounts, rounded down; what is below one stays owed.
    function test_CM15_claim_PaysInWholeTokens() public {
        fund(ALICE, 1000);
        reserve(ALICE, LENDER, 3.9e12, 1.7e12);
        claim(ALICE, LENDER, 3.9e12);
        assertEq(usdc.balanceOf(LENDER), 1, "one of 1.7");
        _owes(LENDER, 0.7e12, 2.2e12);
        clear(ALICE, LENDER, 2.2e12);
        assertEq(usdc.balanceOf(LENDER), 3, "two of 2.9");
        _owes(LENDER, 0.9e12, 0);
        assertSums("after dust");
        reserve(ALICE, LENDER, 0.3e12, 0.3e12);
        claim(ALICE, LENDER, 0.3e12);
        assertEq(usdc.balanceOf(LENDER), 4, "with what was left");
        _owes(LENDER, 0.2e12, 0);
    }

    /// @notice A receiver whose transfer reverts loses nothing: neither reservation nor claim.
    function test_CM15_claim_RevertWhen_TheTransferFails() public {
        BlockingToken token = new BlockingToken();
        usdc = token;
        redeploy();
        fund(ALICE, 1000);
        reserve(ALICE, LENDER, 100e18, 100e18);
        token.setBlocked(LENDER, true);
        bytes32 account = idOf(ALICE);
        vm.prank(LENDER);
        expectError(abi.encodeWithSelector(BlockingToken.Blocked.selector, LENDER));
        reservations.claim(account, 100e18);
        _holds(100e18, 100e18);
        token.setBlocked(LENDER, false);
        claim(ALICE, LENDER, 100e18);
        assertEq(usdc.balanceOf(LENDER), 100e6, "paid when it can be");
        assertSums("after a transfer that failed");
    }

    /// @notice A token that calls back from a payment finds the reservations closed.
    function test_CM15_claim_RevertWhen_TheTokenCallsBack() public {
        BlockingToken token = new BlockingToken();
        usdc = token;
        redeploy();
        fund(ALICE, 1000);
        fund(BOB, 1000);
        reserve(ALICE, address(token), 100e18, 100e18);
        claim(ALICE, address(token), 40e18);
        token.onTransfer(address(reservations), abi.encodeCall(reservations.claim, (idOf(ALICE), 1e18)));
        bytes32 account = idOf(ALICE);
        vm.prank(address(token));
        expectError(abi.encodeWithSignature("ReentrancyGuardReentrantCall()"));
        reservations.claim(account, 40e18);
        token.onTransfer(address(reservations), abi.encodeCall(reservations.payout, (idOf(ALICE), address(token))));
        vm.prank(address(token));
        expectError(abi.encodeWithSignature("ReentrancyGuardReentrantCall()"));
        reservations.claim(account, 40e18);
        assertSums("after what was refused");
    }

    function test_CM15_claim_OnlyTheReservationsAtTheClearingHouse() public {
        bytes32 account = idOf(ALICE);
        bytes32 claims = AccountLib.claims(address(this));
        expectError(abi.encodeWithSelector(Errors.NotReservations.selector, address(this)));
        house.claim(account, claims, 1);
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    /// @dev Without positions net cash is cash here, and what a quorum may clear is that with the rests that it lacks.
    function _clearWhatHeHas(address integrator) private {
        int256 netCash = house.cashOf(idOf(ALICE));
        for (uint256 i; i < 3; ++i) {
            (, uint256 rest) = reservations.owedOf(idOf(ALICE), integrators[i]);
            netCash += int256(rest);
        }
        (, uint256 mine) = reservations.owedOf(idOf(ALICE), integrator);
        uint256 amount = netCash > 0 && uint256(netCash) < mine ? uint256(netCash) : mine;
        if (netCash > 0 && amount > 0) clear(ALICE, integrator, amount);
    }

    function _holds(uint256 amount, uint256 cashPart) private view {
        Reservation memory open = reservations.reservationOf(idOf(ALICE), LENDER);
        assertEq(open.amount, amount, "amount");
        assertEq(open.cashPart, cashPart, "cash part");
    }

    function _owes(address integrator, uint256 cash, uint256 rest) private view {
        (uint256 foundCash, uint256 foundRest) = reservations.owedOf(idOf(ALICE), integrator);
        assertEq(foundCash, cash, "owed of cash parts");
        assertEq(foundRest, rest, "owed of the rest");
    }
}
