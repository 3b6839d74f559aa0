// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ClearingHouse} from "../../contracts/ClearingHouse.sol";
import {Ledger} from "../../contracts/clearing/Ledger.sol";
import {IClearingHouse} from "../../contracts/interfaces/IClearingHouse.sol";
import {ICollateralVault} from "../../contracts/interfaces/ICollateralVault.sol";
import {IMarginVerifier} from "../../contracts/interfaces/IMarginVerifier.sol";
import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {Trade} from "../../contracts/libraries/Types.sol";
import {HouseFixture} from "./base/HouseFixture.sol";
import {Trees} from "./base/Trees.sol";
import {vm} from "./base/Vm.sol";

/// @notice What a match books, keeping cash (CM-30) and sizes (CM-31), and what it refuses.
contract ClearingHouseMatchTest is HouseFixture {
    uint256 private constant MAKER = 0;
    uint256 private constant TAKER = 1;

    function setUp() public override {
        super.setUp();
        fund(MAKER, 10_000);
        fund(TAKER, 10_000);
    }

    // --- what is booked --------------------------------------------------------------------------------------------

    function test_CM30_CM31_matchOrders_BooksSizesCashAndFees() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 2e18, 3010e18);
        house.matchOrders(m);
        assertEq(house.positionOf(idOf(MAKER), ETH), 2e18, "the maker bought");
        assertEq(house.positionOf(idOf(TAKER), ETH), -2e18, "the taker sold");
        assertEq(house.cashOf(idOf(MAKER)), 10_000e18 - 6020e18 - 1.204e18, "the maker paid price and fee");
        assertEq(house.cashOf(idOf(TAKER)), 10_000e18 + 6020e18 - 1.204e18, "the taker was paid, less the fee");
        assertEq(house.cashOf(AccountLib.FEES), 2.408e18, "fees");
        assertEq(house.filledOf(HashLib.hash(m.maker)), 2e18, "the maker's order is filled");
        assertEq(house.filledOf(HashLib.hash(m.taker)), 2e18, "the taker's order is filled");
        assertSums("after a match");
    }

    function test_CM31_matchOrders_TheMakerSells() public {
        trade(MAKER, TAKER, -3e18, 2990e18);
        assertEq(house.positionOf(idOf(MAKER), ETH), -3e18, "the maker sold");
        assertEq(house.positionOf(idOf(TAKER), ETH), 3e18, "the taker bought");
        assertSums("after a sale by the maker");
    }

    /// @notice CM-07: a match that was signed and sent is not broken by whoever posts batches before it.
    function test_CM07_matchOrders_AfterTwoAndFivePostings() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
        for (uint256 postings = 1; postings <= 5; ++postings) {
            postMark(markOf("ETH", MARK + postings));
            if (postings != 2 && postings != 5) continue;
            uint256 state = vm.snapshotState();
            house.matchOrders(m);
            assertEq(house.positionOf(idOf(MAKER), ETH), 1e18, "matched");
            vm.revertToState(state);
        }
        pass(GRACE + 1);
        _refused(m, abi.encodeWithSelector(Errors.InvalidProof.selector, HashLib.leaf(m.mark)));
    }

    /// @notice Whatever sizes and prices, in any direction, nothing is made or lost; rounding goes to the fund.
    function testFuzz_CM30_CM31_matchOrders_Conserves(uint256[4] calldata sizes, uint256[4] calldata prices) public {
        for (uint256 i; i < sizes.length; ++i) {
            int256 size = int256(bound(sizes[i], 1, 5e18));
            uint256 price = bound(prices[i], MARK * 9 / 10, MARK * 11 / 10);
            trade(i % 3, 3, i % 2 == 0 ? size : -size, price);
        }
        assertTrue(house.cashOf(AccountLib.FUND) >= 0, "rounding is never paid by the fund");
        assertSums("after four matches");
    }

    /// @notice What a buyer pays and a fee are rounded up, what a seller receives down; the fund has the rest.
    function test_CM30_matchOrders_RoundsAgainstWhoActs() public {
        (int256 buyer, int256 seller) = (house.cashOf(idOf(MAKER)), house.cashOf(idOf(TAKER)));
        trade(MAKER, TAKER, 1, 2999.5e18);
        assertEq(house.cashOf(idOf(MAKER)) - buyer, -3000 - 1, "2,999.5 and a fee of 0.6");
        assertEq(house.cashOf(idOf(TAKER)) - seller, 2999 - 1, "2,999.5 less a fee of 0.6");
        assertEq(house.cashOf(AccountLib.FUND), 1, "the fund");
        assertEq(house.cashOf(AccountLib.FEES), 2, "the fees");
        assertSums("after dust");
    }

    function test_matchOrders_FillsOrdersInParts() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 5e18, MARK);
        m.size = 2e18;
        _resigned(m);
        house.matchOrders(m);
        m.size = 3e18;
        _resigned(m);
        house.matchOrders(m);
        assertEq(house.filledOf(HashLib.hash(m.maker)), 5e18, "filled");
        m.size = 1;
        _resigned(m);
        _refused(m, abi.encodeWithSelector(Errors.Overfill.selector, HashLib.hash(m.maker), 5e18, 1, 5e18));
    }

    /// @notice Another underlying's orders and mark, of the same accounts.
    function test_matchOrders_EachInstrumentByItself() public {
        trade(MAKER, TAKER, 1e18, MARK);
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e17, 60_000e18);
        (m.maker.asset, m.taker.asset) = (perpetual("BTC"), perpetual("BTC"));
        m.mark = markOf("BTC", 60_000e18);
        m.markProof = Trees.proof(marksTree(), HashLib.leaf(m.mark));
        _resigned(m);
        house.matchOrders(m);
        assertEq(house.positionOf(idOf(MAKER), perpetual("BTC")), 1e17, "BTC");
        assertEq(house.positionOf(idOf(MAKER), ETH), 1e18, "ETH as before");
    }

    // --- sides and assets ------------------------------------------------------------------------------------------

    function test_matchOrders_RevertWhen_AssetsDiffer() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
        m.taker.asset = perpetual("BTC");
        _resigned(m);
        _refused(m, abi.encodeWithSelector(Errors.AssetMismatch.selector, ETH, perpetual("BTC")));
    }

    function test_matchOrders_RevertWhen_NotAPerpetual() public {
        bytes32[3] memory assets = [bytes32(uint256(ETH) | 1), bytes32(uint256(2) << 248), bytes32(uint256(1) << 248)];
        for (uint256 i; i < assets.length; ++i) {
            IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
            (m.maker.asset, m.taker.asset) = (assets[i], assets[i]);
            _resigned(m);
            _refused(m, abi.encodeWithSelector(Errors.NotTradable.selector, assets[i]));
        }
    }

    /// @notice Between accounts of one owner too: cross and isolated.
    function test_matchOrders_RevertWhen_BothAreOneOwners() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
        m.taker.accountId = accountOf(ownerOf(MAKER), 1);
        resign(m, owners[MAKER], owners[MAKER]);
        _refused(m, abi.encodeWithSelector(Errors.SelfMatch.selector, ownerOf(MAKER)));
    }

    function test_matchOrders_RevertWhen_SizeIsZero() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
        m.size = 0;
        _resigned(m);
        _refused(m, abi.encodeWithSelector(Errors.ZeroAmount.selector));
    }

    function test_matchOrders_RevertWhen_SidesDoNotFit() public {
        int256[3][4] memory cases = [[int256(1), -1, -1], [int256(1), 1, 1], [int256(-1), 1, 1], [int256(-1), -1, -1]];
        for (uint256 i; i < cases.length; ++i) {
            IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
            (m.size, m.maker.size, m.taker.size) = (cases[i][0], cases[i][1], cases[i][2]);
            _resigned(m);
            _refused(m, abi.encodeWithSelector(Errors.SideMismatch.selector, m.size, m.maker.size, m.taker.size));
        }
    }

    // --- orders ----------------------------------------------------------------------------------------------------

    function test_matchOrders_RevertWhen_AnOrderExpired() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
        m.maker.deadline = uint64(block.timestamp);
        _resigned(m);
        vm.warp(block.timestamp + 1);
        _refused(
            m,
            abi.encodeWithSelector(
                Errors.OrderExpired.selector, HashLib.hash(m.maker), m.maker.deadline, block.timestamp
            )
        );
    }

    function test_matchOrders_RevertWhen_Cancelled() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
        expectError(abi.encodeWithSelector(Errors.NotOwner.selector, address(this), idOf(TAKER)));
        house.cancelOrder(m.taker.accountId, m.taker.nonce);
        vm.prank(ownerOf(TAKER));
        house.cancelOrder(m.taker.accountId, m.taker.nonce);
        _refused(m, abi.encodeWithSelector(Errors.OrderIsCancelled.selector, m.taker.accountId, m.taker.nonce));
    }

    function test_matchOrders_OnlyByTheSubmitterNamed() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
        m.maker.submitter = address(0xE0);
        _resigned(m);
        _refused(m, abi.encodeWithSelector(Errors.NotSubmitter.selector, address(0xE0), address(this)));
        vm.prank(address(0xE0));
        house.matchOrders(m);
    }

    function test_matchOrders_RevertWhen_BeyondALimit() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
        m.maker.limitPrice = MARK - 1;
        _resigned(m);
        _refused(m, abi.encodeWithSelector(Errors.LimitExceeded.selector, HashLib.hash(m.maker), MARK, MARK - 1));
        m = matchOf(MAKER, TAKER, 1e18, MARK);
        m.taker.limitPrice = MARK + 1;
        _resigned(m);
        _refused(m, abi.encodeWithSelector(Errors.LimitExceeded.selector, HashLib.hash(m.taker), MARK, MARK + 1));
    }

    function test_matchOrders_RevertWhen_TheFeeIsAboveWhatTheOrderAllows() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
        m.taker.maxFee = 0.6e18;
        _resigned(m);
        house.matchOrders(m);
        m = matchOf(MAKER, TAKER, 1e18, MARK);
        m.taker.maxFee = 0.6e18 - 1;
        _resigned(m);
        _refused(m, abi.encodeWithSelector(Errors.FeeAboveMax.selector, HashLib.hash(m.taker), 0.6e18, 0.6e18 - 1));
    }

    function test_matchOrders_RevertWhen_SignedByAnother() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
        resign(m, owners[TAKER], owners[TAKER]);
        _refused(m, abi.encodeWithSelector(Errors.OrderSignatureInvalid.selector, idOf(MAKER), ownerOf(TAKER)));
        m.makerSignature = hex"00";
        _refused(m, abi.encodeWithSelector(Errors.OrderSignatureInvalid.selector, idOf(MAKER), address(0)));
    }

    /// @notice Nobody signs for the fund and the fees: their owner is zero, which is what a broken signature recovers to.
    function test_matchOrders_RevertWhen_ForTheFund() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
        m.maker.accountId = AccountLib.FUND;
        _resigned(m);
        m.makerSignature = new bytes(65);
        _refused(m, abi.encodeWithSelector(Errors.OrderSignatureInvalid.selector, AccountLib.FUND, address(0)));
    }

    function test_CM06_matchOrders_RevertWhen_AnOrderIsForAnotherChain() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
        bytes memory elsewhere = m.makerSignature;
        onChain(CHAIN_B);
        _resigned(m);
        m.makerSignature = elsewhere;
        address recovered = recover(digestOf(m.maker), elsewhere);
        _refused(m, abi.encodeWithSelector(Errors.OrderSignatureInvalid.selector, idOf(MAKER), recovered));
    }

    // --- mark and permit -------------------------------------------------------------------------------------------

    function test_matchOrders_PriceWithinTheBandOfTheMark() public {
        trade(MAKER, TAKER, 1e18, MARK * 11 / 10);
        trade(MAKER, TAKER, 1e18, MARK * 9 / 10);
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK * 11 / 10 + 1);
        _refused(m, abi.encodeWithSelector(Errors.PriceOutsideBand.selector, m.price, MARK, PRICE_BAND));
        m = matchOf(MAKER, TAKER, 1e18, MARK * 9 / 10 - 1);
        _refused(m, abi.encodeWithSelector(Errors.PriceOutsideBand.selector, m.price, MARK, PRICE_BAND));
    }

    function test_matchOrders_RevertWhen_TheMarkIsNotPosted() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
        m.mark.price += 1;
        _refused(m, abi.encodeWithSelector(Errors.InvalidProof.selector, HashLib.leaf(m.mark)));
        m.mark = markOf("BTC", 60_000e18);
        _refused(m, abi.encodeWithSelector(Errors.MarkAssetMismatch.selector, ETH, m.mark.asset));
    }

    function test_matchOrders_RevertWhen_TheMarkIsTooOld() public {
        pass(MAX_AGE + 1);
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
        _refused(m, abi.encodeWithSelector(Errors.MarksTooOld.selector, MAX_AGE + 1, MAX_AGE));
    }

    function test_matchOrders_RevertWhen_ThePermitIsForOthers() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
        m.permit.counterpartyId = idOf(2);
        _refused(m, abi.encodeWithSelector(Errors.PermitAccountMismatch.selector, idOf(MAKER), idOf(2)));
        m = matchOf(MAKER, TAKER, 1e18, MARK);
        m.permit.accountId = idOf(2);
        _refused(m, abi.encodeWithSelector(Errors.PermitAccountMismatch.selector, idOf(2), idOf(TAKER)));
    }

    function test_matchOrders_RevertWhen_ThePermitIsForAnotherMatch() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 1e18, MARK);
        bytes32 permittedAction = m.permit.actionHash;
        m.size = 1e18 - 1;
        bytes32 action = HashLib.hash(Trade(HashLib.hash(m.maker), HashLib.hash(m.taker), m.size, m.price));
        _refused(m, abi.encodeWithSelector(Errors.ActionMismatch.selector, action, permittedAction));
    }

    function test_matchOrders_RevertWhen_Replayed() public {
        IClearingHouse.Match memory m = matchOf(MAKER, TAKER, 4e18, MARK);
        m.size = 1e18;
        _resigned(m);
        house.matchOrders(m);
        _refused(m, abi.encodeWithSelector(Errors.NonceAlreadyUsed.selector, idOf(MAKER), m.permit.nonce));
    }

    // --- cash and construction -------------------------------------------------------------------------------------

    function test_CM30_credit_debit_RevertWhen_NotTheVault() public {
        bytes memory refusal = abi.encodeWithSelector(Errors.NotVault.selector, address(this));
        bytes32 account = idOf(MAKER);
        expectError(refusal);
        house.credit(account, 1);
        expectError(refusal);
        house.debit(account, 1);
    }

    function test_constructor_RevertWhen_Misconfigured() public {
        string[7] memory fields =
            ["verifier", "vault", "priceBand", "feeRate", "rampSeconds", "reservations", "fundShare"];
        for (uint256 i; i < fields.length; ++i) {
            Ledger.Config memory wrong = houseConfig();
            if (i == 0) wrong.verifier = IMarginVerifier(address(0));
            if (i == 1) wrong.vault = ICollateralVault(address(0));
            if (i == 2) wrong.priceBand = 1e18 + 1;
            if (i == 3) wrong.feeRate = 0.01e18 + 1;
            if (i == 4) wrong.rampSeconds = 0;
            if (i == 5) wrong.reservations = address(0);
            if (i == 6) wrong.fundShare = 1e18 + 1;
            expectError(abi.encodeWithSelector(Errors.BadConfiguration.selector, fields[i]));
            new ClearingHouse(wrong);
        }
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    function _resigned(IClearingHouse.Match memory m) private {
        resign(m, owners[MAKER], owners[TAKER]);
    }

    function _refused(IClearingHouse.Match memory m, bytes memory refusal) private {
        expectError(refusal);
        house.matchOrders(m);
    }
}
