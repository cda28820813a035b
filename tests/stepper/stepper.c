// SPDX-License-Identifier: Apache-2.0
/*
 * Counts every load and store to a range of pages of this process, with address and width.
 *
 * The range is made inaccessible. A touch raises SIGSEGV: the handler logs it, opens the page it
 * hit, sets the trap flag and returns; the CPU runs that one instruction and raises SIGTRAP, whose
 * handler closes the pages again. An instruction that spans two pages is logged once for each. A
 * string instruction with a repeat prefix traps after each element.
 *
 * Kind and width come from decoding the instruction, and the kind must agree with the write bit
 * of the page fault. An opcode that the decoder does not know has width 0: the tests refuse it.
 * x86-64 only; one thread.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define LOG_MAX   4096
#define PAGE      4096u
#define TRAP_FLAG 0x100
#define CODE_MAX  15

enum { LOAD = 1, STORE = 2, BOTH = 3 };

typedef struct entry {
    uint64_t offset;
    uint32_t width; /* bytes, 0 unknown */
    uint32_t kind;
    uint8_t code[16];
} entry;

static struct {
    uint8_t *start;
    size_t size;
    struct sigaction old_segv, old_trap;
    entry log[LOG_MAX];
    uint32_t count;
    uint32_t strays;
} state;

typedef struct instruction {
    uint8_t code[CODE_MAX + 1];
    unsigned at;
    unsigned map;    /* 1, 2, 3: 0F, 0F38, 0F3A; 0: one-byte opcodes */
    unsigned prefix; /* 0, 0x66, 0xf3, 0xf2 */
    bool wide, operand16;
    unsigned vector; /* bytes of a full vector operand */
} instruction;

static void read_prefixes(instruction *i)
{
    for (; i->at < CODE_MAX; i->at++) {
        uint8_t byte = i->code[i->at];
        if (byte == 0x66) {
            i->operand16 = true;
            i->prefix = i->prefix ? i->prefix : 0x66;
        } else if (byte == 0xf2 || byte == 0xf3) {
            i->prefix = byte;
        } else if (byte != 0xf0 && byte != 0x2e && byte != 0x36 && byte != 0x3e && byte != 0x26 &&
                   byte != 0x64 && byte != 0x65 && byte != 0x67) {
            break;
        }
    }
    i->vector = 16;
}

static const unsigned vex_prefix[4] = {0, 0x66, 0xf3, 0xf2};

/* Reads REX, VEX or EVEX and the escape bytes; leaves `at` on the opcode. */
static void read_escape(instruction *i)
{
    const uint8_t *c = i->code + i->at;

    if (c[0] == 0xc5) {
        i->map = 1;
        i->prefix = vex_prefix[c[1] & 3];
        i->vector = (c[1] & 4) ? 32 : 16;
        i->at += 2;
    } else if (c[0] == 0xc4) {
        i->map = c[1] & 31;
        i->wide = (c[2] & 0x80) != 0;
        i->prefix = vex_prefix[c[2] & 3];
        i->vector = (c[2] & 4) ? 32 : 16;
        i->at += 3;
    } else if (c[0] == 0x62) {
        i->map = c[1] & 7;
        i->wide = (c[2] & 0x80) != 0;
        i->prefix = vex_prefix[c[2] & 3];
        i->vector = 16u << ((c[3] >> 5) & 3);
        i->at += 4;
    } else {
        if ((c[0] & 0xf0) == 0x40) {
            i->wide = (c[0] & 8) != 0;
            i->at++;
        }
        if (i->code[i->at] == 0x0f) {
            i->map = 1;
            i->at++;
            if (i->code[i->at] == 0x38 || i->code[i->at] == 0x3a) {
                i->map = i->code[i->at] == 0x38 ? 2 : 3;
                i->at++;
            }
        }
    }
}

static void set(entry *e, unsigned kind, unsigned width)
{
    e->kind = kind;
    e->width = width;
}

static void decode_one_byte(const instruction *i, entry *e, bool write)
{
    uint8_t op = i->code[i->at];
    unsigned extension = (i->code[i->at + 1] >> 3) & 7;
    unsigned full = i->wide ? 8 : i->operand16 ? 2 : 4;
    unsigned width = (op & 1) ? full : 1;

    if (op < 0x40 && (op & 7) < 4) { /* add or adc sbb and sub xor, cmp */
        set(e, (op & 2) || op >= 0x38 ? LOAD : BOTH, width);
    } else if (op >= 0x88 && op <= 0x8b) {
        set(e, (op & 2) ? LOAD : STORE, width);
    } else if (op == 0xc6 || op == 0xc7) {
        set(e, STORE, width);
    } else if ((op >= 0xa4 && op <= 0xa7) || (op >= 0xaa && op <= 0xaf)) {
        set(e, write ? STORE : LOAD, width);
    } else if (op >= 0xa0 && op <= 0xa3) {
        set(e, (op & 2) ? STORE : LOAD, width);
    } else if (op == 0x63) {
        set(e, LOAD, 4);
    } else if (op == 0x69 || op == 0x6b) {
        set(e, LOAD, full);
    } else if (op == 0x84 || op == 0x85) {
        set(e, LOAD, width);
    } else if (op == 0x80 || op == 0x81 || op == 0x83) {
        set(e, extension == 7 ? LOAD : BOTH, op == 0x80 ? 1 : full);
    } else if (op == 0xf6 || op == 0xf7) {
        set(e, extension == 2 || extension == 3 ? BOTH : LOAD, width);
    } else if (op == 0xfe || op == 0xff) {
        set(e, extension < 2 ? BOTH : LOAD, extension < 2 ? width : 8);
    } else if (op == 0x86 || op == 0x87 || (op >= 0xc0 && op <= 0xc1) ||
               (op >= 0xd0 && op <= 0xd3)) {
        set(e, BOTH, width);
    }
}

static void decode_0f(const instruction *i, entry *e)
{
    uint8_t op = i->code[i->at];
    unsigned full = i->wide ? 8 : i->operand16 ? 2 : 4;
    unsigned scalar = i->prefix == 0xf3 ? 4 : i->prefix == 0xf2 ? 8 : i->vector;

    switch (op) {
    case 0xb6:
    case 0xbe:
        set(e, LOAD, 1);
        break;
    case 0xb7:
    case 0xbf:
        set(e, LOAD, 2);
        break;
    case 0xb0:
    case 0xc0:
        set(e, BOTH, 1);
        break;
    case 0xb1:
    case 0xc1:
        set(e, BOTH, full);
        break;
    case 0xc3: /* movnti */
        set(e, STORE, full);
        break;
    case 0x10:
    case 0x11:
        set(e, op == 0x10 ? LOAD : STORE, scalar);
        break;
    case 0x12:
    case 0x16:
        set(e, LOAD, i->prefix == 0xf3 ? i->vector : 8);
        break;
    case 0x13:
    case 0x17:
        set(e, STORE, 8);
        break;
    case 0x28:
    case 0x29:
    case 0x2b:
        set(e, op == 0x28 ? LOAD : STORE, i->vector);
        break;
    case 0x6e:
        set(e, LOAD, i->wide ? 8 : 4);
        break;
    case 0x7e:
        set(e, i->prefix == 0xf3 ? LOAD : STORE, i->prefix == 0xf3 || i->wide ? 8 : 4);
        break;
    case 0x6f:
    case 0x7f:
        set(e, op == 0x6f ? LOAD : STORE, i->prefix == 0 ? 8 : i->vector);
        break;
    case 0xd6:
        set(e, STORE, 8);
        break;
    case 0xe7:
        set(e, STORE, i->prefix == 0 ? 8 : i->vector);
        break;
    case 0xf0: /* lddqu */
        set(e, LOAD, i->vector);
        break;
    default:
        if (op >= 0x40 && op <= 0x4f) { /* cmov */
            set(e, LOAD, full);
        }
        break;
    }
}

static void decode(entry *e, bool write)
{
    instruction i = {.at = 0};

    memcpy(i.code, e->code, CODE_MAX);
    read_prefixes(&i);
    read_escape(&i);
    set(e, write ? STORE : LOAD, 0);
    if (i.map == 0) {
        decode_one_byte(&i, e, write);
    } else if (i.map == 1) {
        decode_0f(&i, e);
    } else if (i.map == 2 && (i.code[i.at] & 0xfe) == 0xf0) { /* movbe */
        set(e, (i.code[i.at] & 1) ? STORE : LOAD, i.wide ? 8 : i.operand16 ? 2 : 4);
    }
    if (((e->kind & STORE) != 0) != write) {
        set(e, write ? STORE : LOAD, 0);
    }
}

static void protect(int rights)
{
    (void)mprotect(state.start, state.size, rights);
}

static void pass_on(int number, const struct sigaction *old)
{
    state.strays++;
    protect(PROT_READ | PROT_WRITE);
    (void)sigaction(number, old, NULL);
}

static void copy_code(uint8_t *code, uintptr_t ip)
{
    size_t here = PAGE - ip % PAGE, count = here < CODE_MAX ? here : CODE_MAX;
    unsigned char resident;

    if (count < CODE_MAX && mincore((void *)(ip + here), 1, &resident) == 0) {
        count = CODE_MAX;
    }
    memset(code, 0, 16);
    memcpy(code, (const void *)ip, count);
}

static void on_segv(int number, siginfo_t *info, void *context)
{
    ucontext_t *user = context;
    uintptr_t offset = (uintptr_t)info->si_addr - (uintptr_t)state.start;

    if (offset >= state.size) {
        pass_on(number, &state.old_segv);
        return;
    }
    if (state.count < LOG_MAX) {
        entry *e = &state.log[state.count];
        e->offset = offset;
        copy_code(e->code, (uintptr_t)user->uc_mcontext.gregs[REG_RIP]);
        decode(e, (user->uc_mcontext.gregs[REG_ERR] & 2) != 0);
    }
    state.count++;
    (void)mprotect(state.start + offset / PAGE * PAGE, PAGE, PROT_READ | PROT_WRITE);
    user->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_trap(int number, siginfo_t *info, void *context)
{
    ucontext_t *user = context;

    (void)info;
    if ((user->uc_mcontext.gregs[REG_EFL] & TRAP_FLAG) == 0) {
        pass_on(number, &state.old_trap);
        return;
    }
    protect(PROT_NONE);
    user->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
}

/* Starts to watch whole pages. 0, or -1 with errno. */
int stepper_watch(void *start, size_t size)
{
    struct sigaction segv = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
    struct sigaction trap = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};

    state.start = start;
    state.size = size;
    state.count = 0;
    state.strays = 0;
    if (sigaction(SIGSEGV, &segv, &state.old_segv) != 0 ||
        sigaction(SIGTRAP, &trap, &state.old_trap) != 0) {
        return -1;
    }
    return mprotect(start, size, PROT_NONE);
}

/* Stops, gives the pages back, and returns the number of accesses (may exceed the log). */
uint32_t stepper_stop(void)
{
    protect(PROT_READ | PROT_WRITE);
    (void)sigaction(SIGSEGV, &state.old_segv, NULL);
    (void)sigaction(SIGTRAP, &state.old_trap, NULL);
    return state.count;
}

const entry *stepper_log(void)
{
    return state.log;
}

uint32_t stepper_strays(void)
{
    return state.strays;
}
