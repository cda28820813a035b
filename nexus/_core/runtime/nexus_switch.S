// SPDX-License-Identifier: Apache-2.0
/*
 * nexus_switch.h in assembly. nexus_enter and nexus_resume return by nexus_home when the function
 * does: its caller lies on another stack in every life, so nothing on the saved one points there.
 */
#if defined(__x86_64__)

#define STORE(frame)                                                                               \
    movq (%rsp), %rax;                                                                             \
    movq %rax, frame(%rip);                                                                        \
    leaq 8(%rsp), %rax;                                                                            \
    movq %rax, frame + 8(%rip);                                                                    \
    movq %rbx, frame + 32(%rip);                                                                   \
    movq %rbp, frame + 40(%rip);                                                                   \
    movq %r12, frame + 48(%rip);                                                                   \
    movq %r13, frame + 56(%rip);                                                                   \
    movq %r14, frame + 64(%rip);                                                                   \
    movq %r15, frame + 72(%rip);                                                                   \
    stmxcsr frame + 80(%rip);                                                                      \
    fnstcw frame + 88(%rip)

    .text
    .globl nexus_enter
    .type nexus_enter, @function
nexus_enter:
    STORE(nexus_home)
    movq %rdx, %rsp
    movq %rdi, %rax
    movq %rsi, %rdi
    xorl %ebp, %ebp
    call *%rax
    leaq nexus_home(%rip), %rdi
    jmp load
    .size nexus_enter, . - nexus_enter

    .globl nexus_resume
    .type nexus_resume, @function
nexus_resume:
    STORE(nexus_home)
    movl $1, %eax
load:
    movq 8(%rdi), %rsp
    movq 32(%rdi), %rbx
    movq 40(%rdi), %rbp
    movq 48(%rdi), %r12
    movq 56(%rdi), %r13
    movq 64(%rdi), %r14
    movq 72(%rdi), %r15
    ldmxcsr 80(%rdi)
    fldcw 88(%rdi)
    jmp *(%rdi)
    .size nexus_resume, . - nexus_resume

    .globl nx_fiber_checkpoint
    .type nx_fiber_checkpoint, @function
nx_fiber_checkpoint:
    STORE(nexus_frame)
    jmp nexus_save
    .size nx_fiber_checkpoint, . - nx_fiber_checkpoint

#elif defined(__aarch64__)

/* x9 is the frame. */
#define STORE(frame)                                                                               \
    adrp x9, frame;                                                                                \
    add x9, x9, :lo12:frame;                                                                       \
    mov x10, sp;                                                                                   \
    stp x30, x10, [x9];                                                                            \
    stp x19, x20, [x9, #32];                                                                       \
    stp x21, x22, [x9, #48];                                                                       \
    stp x23, x24, [x9, #64];                                                                       \
    stp x25, x26, [x9, #80];                                                                       \
    stp x27, x28, [x9, #96];                                                                       \
    str x29, [x9, #112];                                                                           \
    stp d8, d9, [x9, #128];                                                                        \
    stp d10, d11, [x9, #144];                                                                      \
    stp d12, d13, [x9, #160];                                                                      \
    stp d14, d15, [x9, #176];                                                                      \
    mrs x10, fpcr;                                                                                 \
    str x10, [x9, #192]

    .text
    .globl nexus_enter
    .type nexus_enter, %function
nexus_enter:
    STORE(nexus_home)
    mov sp, x2
    mov x10, x0
    mov x0, x1
    mov x29, #0
    blr x10
    adrp x9, nexus_home
    add x9, x9, :lo12:nexus_home
    b load
    .size nexus_enter, . - nexus_enter

    .globl nexus_resume
    .type nexus_resume, %function
nexus_resume:
    STORE(nexus_home)
    mov x9, x0
    mov w0, #1
load:
    ldp x30, x10, [x9]
    mov sp, x10
    ldp x19, x20, [x9, #32]
    ldp x21, x22, [x9, #48]
    ldp x23, x24, [x9, #64]
    ldp x25, x26, [x9, #80]
    ldp x27, x28, [x9, #96]
    ldr x29, [x9, #112]
    ldp d8, d9, [x9, #128]
    ldp d10, d11, [x9, #144]
    ldp d12, d13, [x9, #160]
    ldp d14, d15, [x9, #176]
    ldr x10, [x9, #192]
    msr fpcr, x10
    ret
    .size nexus_resume, . - nexus_resume

    .globl nx_fiber_checkpoint
    .type nx_fiber_checkpoint, %function
nx_fiber_checkpoint:
    STORE(nexus_frame)
    b nexus_save
    .size nx_fiber_checkpoint, . - nx_fiber_checkpoint

#elif defined(__riscv) && __riscv_xlen == 64

#if defined(__riscv_flen) && __riscv_flen >= 64
#define STORE_FLOATS                                                                               \
    fsd fs0, 128(t0);                                                                              \
    fsd fs1, 136(t0);                                                                              \
    fsd fs2, 144(t0);                                                                              \
    fsd fs3, 152(t0);                                                                              \
    fsd fs4, 160(t0);                                                                              \
    fsd fs5, 168(t0);                                                                              \
    fsd fs6, 176(t0);                                                                              \
    fsd fs7, 184(t0);                                                                              \
    fsd fs8, 192(t0);                                                                              \
    fsd fs9, 200(t0);                                                                              \
    fsd fs10, 208(t0);                                                                             \
    fsd fs11, 216(t0);                                                                             \
    frcsr t1;                                                                                      \
    sd t1, 224(t0)
#define LOAD_FLOATS                                                                                \
    fld fs0, 128(t0);                                                                              \
    fld fs1, 136(t0);                                                                              \
    fld fs2, 144(t0);                                                                              \
    fld fs3, 152(t0);                                                                              \
    fld fs4, 160(t0);                                                                              \
    fld fs5, 168(t0);                                                                              \
    fld fs6, 176(t0);                                                                              \
    fld fs7, 184(t0);                                                                              \
    fld fs8, 192(t0);                                                                              \
    fld fs9, 200(t0);                                                                              \
    fld fs10, 208(t0);                                                                             \
    fld fs11, 216(t0);                                                                             \
    ld t1, 224(t0);                                                                                \
    fscsr t1
#else
#define STORE_FLOATS
#define LOAD_FLOATS
#endif

/* t0 is the frame. gp and tp belong to the program and the process, not to the function. */
#define STORE(frame)                                                                               \
    lla t0, frame;                                                                                 \
    sd ra, 0(t0);                                                                                  \
    sd sp, 8(t0);                                                                                  \
    sd s0, 32(t0);                                                                                 \
    sd s1, 40(t0);                                                                                 \
    sd s2, 48(t0);                                                                                 \
    sd s3, 56(t0);                                                                                 \
    sd s4, 64(t0);                                                                                 \
    sd s5, 72(t0);                                                                                 \
    sd s6, 80(t0);                                                                                 \
    sd s7, 88(t0);                                                                                 \
    sd s8, 96(t0);                                                                                 \
    sd s9, 104(t0);                                                                                \
    sd s10, 112(t0);                                                                               \
    sd s11, 120(t0);                                                                               \
    STORE_FLOATS

    .text
    .globl nexus_enter
    .type nexus_enter, @function
nexus_enter:
    STORE(nexus_home)
    mv sp, a2
    mv t1, a0
    mv a0, a1
    li s0, 0
    jalr t1
    lla t0, nexus_home
    j load
    .size nexus_enter, . - nexus_enter

    .globl nexus_resume
    .type nexus_resume, @function
nexus_resume:
    STORE(nexus_home)
    mv t0, a0
    li a0, 1
load:
    ld ra, 0(t0)
    ld sp, 8(t0)
    ld s0, 32(t0)
    ld s1, 40(t0)
    ld s2, 48(t0)
    ld s3, 56(t0)
    ld s4, 64(t0)
    ld s5, 72(t0)
    ld s6, 80(t0)
    ld s7, 88(t0)
    ld s8, 96(t0)
    ld s9, 104(t0)
    ld s10, 112(t0)
    ld s11, 120(t0)
    LOAD_FLOATS
    ret
    .size nexus_resume, . - nexus_resume

    .globl nx_fiber_checkpoint
    .type nx_fiber_checkpoint, @function
nx_fiber_checkpoint:
    STORE(nexus_frame)
    j nexus_save
    .size nx_fiber_checkpoint, . - nx_fiber_checkpoint

#endif

    .section .note.GNU-stack, "", %progbits
