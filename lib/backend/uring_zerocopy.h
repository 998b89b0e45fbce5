// Loans: what sends that do not copy have lent to the kernel, by number. Such a send completes twice, with its result
// and, when the kernel needs the memory no more, with its notification. The second may come minutes after the first,
// when the descriptor is closed and its number somebody else's: so their token names a loan, and loans have generations.
#pragma once

#include "core/loop.h"

namespace mio {

// uring_loan.due; 0: the loan is free
constexpr uint8_t LOAN_RESULT = 1;  // the send's result is still to come
constexpr uint8_t LOAN_RELEASE = 2; // the kernel has the memory
constexpr uint8_t LOAN_REPORT = 4;  // it had it; there was no room for the record

struct uring_loan {
    lane_request *of;
    uint32_t generation; // LOAN_GENERATIONS of them
    uint32_t next_free;  // number + 1; 0: none
    uint8_t due;
    bool moved;          // the result was bytes
    bool buried;         // the ring is gone, what it was lent is not returned
};

struct uring_loans {
    uring_loan *all;
    uint32_t capacity;
    uint32_t first_free; // number + 1; 0: none
    uint32_t out;        // not free: the ring's memory debt
    uint32_t unreported; // with LOAN_REPORT
};

constexpr uint32_t LOAN_GENERATIONS = 1u << 24;
constexpr uint32_t LOANS_MAX = 1u << 16;

// One send of req: holds it (core/loop.h), result and release are due. false: no memory, or too many are out.
bool uring_loan_take(loop *l, uring_loans *loans, lane_request *req, uint32_t *number);
// The kernel did not take the send; nothing of the user's ran in between.
void uring_loan_undo(uring_loans *loans, uint32_t number);
// What completions name; nullptr: stale.
uring_loan *uring_loan_of(const uring_loans *loans, uint32_t number, uint32_t generation);

// The result came; whether the kernel still has the memory is another question.
void uring_loan_result(uring_loans *loans, uring_loan *loan, bool moved);
// The kernel has let go, and its owner is told, at once if there is room for the record.
void uring_loan_released(loop *l, uring_loans *loans, uring_loan *loan);
// Tells of those for which there was no room, as far as there is now.
void uring_loans_report(loop *l, uring_loans *loans);
// The kernel has let go of a whole ring, the present one or the buried one: of all its loans, whatever is due.
void uring_loans_return(loop *l, uring_loans *loans, bool buried);
// There is something of it that the kernel has.
bool uring_loans_held(const uring_loans *loans, bool buried);
// The present ring is buried: no completion tells of its loans any more.
void uring_loans_bury(uring_loans *loans);

void uring_loans_close(loop *l, uring_loans *loans);

}
