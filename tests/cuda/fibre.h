// Stacks that one OS thread switches between, one for each device thread that waits.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <new>

namespace stand_in {

/// Saves the callee-saved registers on this stack and its top in `save`, and goes on with the stack `load`.
extern "C" void stand_in_switch(void** save, void* load);

asm(R"(
    .pushsection .text
    .weak stand_in_switch
    .hidden stand_in_switch
    .type stand_in_switch, @function
stand_in_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size stand_in_switch, . - stand_in_switch
    .popsection
)");

class Stack {
  public:
    /// A stack whose first switch calls `entry`, which never returns. Tops are spread so that the stacks of one OS
    /// thread do not all meet in the same lines of the cache.
    Stack(void (*entry)(), unsigned number) {
        void* mapped = mmap(nullptr, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mapped == MAP_FAILED) throw std::bad_alloc();
        bottom = static_cast<uint64_t*>(mapped);
        *bottom = CANARY;
        auto word = reinterpret_cast<uint64_t*>(static_cast<char*>(mapped) + BYTES - 64 - number % 16 * 192);
        *--word = 0;
        *--word = reinterpret_cast<uint64_t>(entry);
        for (int i = 0; i < 6; i++) *--word = 0;
        top = word;
    }
    ~Stack() { munmap(bottom, BYTES); }
    Stack(const Stack&) = delete;
    Stack& operator=(const Stack&) = delete;

    bool overflowed() const { return *bottom != CANARY; }

    /// Where it was left.
    void* top;

  private:
    static constexpr size_t BYTES = 64 << 10;
    static constexpr uint64_t CANARY = 0x5afe5afe5afe5afe;
    uint64_t* bottom;
};

}  // namespace stand_in
