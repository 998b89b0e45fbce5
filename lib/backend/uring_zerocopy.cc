// Loans: the table of what the kernel has been lent.
//
//   free --take--> result and release are due --both came, in any order--> free
//                                        \--the release came, no room for its record--> report is due --> free
//
// The request of a loan stays where it is as long as the loan is not free, for it is held; so it is never looked at in
// vain. Must not know what is sent, nor what a completion looks like.

#include "backend/uring_zerocopy.h"

#include <string.h>

namespace mio {

constexpr uint32_t LOANS_FIRST = 16;

static uint32_t loan_number(const uring_loans *loans, const uring_loan *loan) {
    return static_cast<uint32_t>(loan - loans->all);
}

static bool loans_grow(loop *l, uring_loans *loans) {
    const uint32_t capacity = loans->capacity == 0 ? LOANS_FIRST : 2 * loans->capacity;
    if (capacity > LOANS_MAX) return false;
    const size_t old_size = loans->capacity * sizeof(uring_loan);
    void *all = memory_resize(&l->mem, loans->all, old_size, capacity * sizeof(uring_loan));
    if (all == nullptr) return false;
    loans->all = static_cast<uring_loan *>(all);
    memset(loans->all + loans->capacity, 0, capacity * sizeof(uring_loan) - old_size);
    for (uint32_t number = capacity; number-- > loans->capacity;) {
        loans->all[number].next_free = loans->first_free;
        loans->first_free = number + 1;
    }
    loans->capacity = capacity;
    return true;
}

static void loan_free_if_over(uring_loans *loans, uring_loan *loan) {
    if (loan->due != 0) return;
    loan->of = nullptr;
    loan->generation = (loan->generation + 1) % LOAN_GENERATIONS; // what the kernel still says of it is stale
    loan->next_free = loans->first_free;
    loans->first_free = loan_number(loans, loan) + 1;
    loans->out--;
}

bool uring_loan_take(loop *l, uring_loans *loans, lane_request *req, uint32_t *number) {
    if (loans->first_free == 0 && !loans_grow(l, loans)) return false;
    *number = loans->first_free - 1;
    uring_loan *loan = &loans->all[*number];
    mio_assert(loan->due == 0);
    loans->first_free = loan->next_free;
    loans->out++;
    loan->of = req;
    loan->due = LOAN_RESULT | LOAN_RELEASE;
    loan->moved = loan->buried = false;
    request_hold(req);
    return true;
}

void uring_loan_undo(uring_loans *loans, uint32_t number) {
    uring_loan *loan = &loans->all[number];
    mio_assert(loan->due == (LOAN_RESULT | LOAN_RELEASE));
    request_unhold(loan->of);
    loan->due = 0;
    loan_free_if_over(loans, loan);
}

uring_loan *uring_loan_of(const uring_loans *loans, uint32_t number, uint32_t generation) {
    if (number >= loans->capacity) return nullptr;
    uring_loan *loan = &loans->all[number];
    return loan->due != 0 && loan->generation == generation ? loan : nullptr;
}

void uring_loan_result(uring_loans *loans, uring_loan *loan, bool moved) {
    mio_assert((loan->due & LOAN_RESULT) != 0);
    loan->due = static_cast<uint8_t>(loan->due & ~LOAN_RESULT);
    loan->moved = moved;
    loan_free_if_over(loans, loan);
}

void uring_loan_released(loop *l, uring_loans *loans, uring_loan *loan) {
    mio_assert((loan->due & LOAN_RELEASE) != 0);
    loan->due = static_cast<uint8_t>(loan->due & ~LOAN_RELEASE);
    if (done_room(l) != 0) {
        request_released(l, loan->of);
        loan_free_if_over(loans, loan);
    } else {
        loan->due |= LOAN_REPORT;
        loans->unreported++;
    }
}

void uring_loans_report(loop *l, uring_loans *loans) {
    for (uint32_t number = 0; loans->unreported != 0 && number < loans->capacity && done_room(l) != 0; number++) {
        uring_loan *loan = &loans->all[number];
        if ((loan->due & LOAN_REPORT) == 0) continue;
        loans->unreported--;
        request_released(l, loan->of);
        loan->due = static_cast<uint8_t>(loan->due & ~LOAN_REPORT);
        loan_free_if_over(loans, loan);
    }
}

bool uring_loans_held(const uring_loans *loans, bool buried) {
    for (uint32_t number = 0; number < loans->capacity; number++) {
        const uring_loan *loan = &loans->all[number];
        if ((loan->due & LOAN_RELEASE) != 0 && loan->buried == buried) return true;
    }
    return false;
}

void uring_loans_bury(uring_loans *loans) {
    for (uint32_t number = 0; number < loans->capacity; number++) {
        uring_loan *loan = &loans->all[number];
        if (loan->due == 0) continue;
        loan->buried = true;
        loan->due = static_cast<uint8_t>(loan->due & ~LOAN_RESULT);
        loan_free_if_over(loans, loan);
    }
}

void uring_loans_return(loop *l, uring_loans *loans, bool buried) {
    for (uint32_t number = 0; number < loans->capacity; number++) {
        uring_loan *loan = &loans->all[number];
        if (loan->due == 0 || loan->buried != buried) continue;
        loan->due = static_cast<uint8_t>(loan->due & ~LOAN_RESULT);
        if ((loan->due & LOAN_RELEASE) != 0) uring_loan_released(l, loans, loan);
        else loan_free_if_over(loans, loan);
    }
}

void uring_loans_close(loop *l, uring_loans *loans) {
    memory_release(&l->mem, loans->all, loans->capacity * sizeof(uring_loan));
    *loans = uring_loans();
}

}
