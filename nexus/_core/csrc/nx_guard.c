// SPDX-License-Identifier: Apache-2.0
#include "nx_guard.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

typedef struct nx_guard_frame {
    sigjmp_buf resume;
    uintptr_t start;
    uintptr_t size;
} nx_guard_frame;

static _Thread_local nx_guard_frame *volatile current;
static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned install_count;
static struct sigaction previous;

/* What the process would have done without us. Returning from a synchronous fault repeats the
 * faulting instruction, so that the default action then sees the true address. */
static void pass_on(int signal_number, siginfo_t *info, void *context)
{
    if ((previous.sa_flags & SA_SIGINFO) != 0) {
        previous.sa_sigaction(signal_number, info, context);
        return;
    }
    bool sent = info->si_code <= 0;
    if (previous.sa_handler == SIG_IGN && sent) {
        return;
    }
    if (previous.sa_handler != SIG_IGN && previous.sa_handler != SIG_DFL) {
        previous.sa_handler(signal_number);
        return;
    }
    struct sigaction fatal = {.sa_handler = SIG_DFL};
    (void)sigaction(SIGBUS, &fatal, NULL);
    if (sent) {
        (void)kill(getpid(), SIGBUS);
    }
}

static void on_sigbus(int signal_number, siginfo_t *info, void *context)
{
    nx_guard_frame *frame = current;

    /* si_code > 0: raised by the kernel for a fault, so si_addr is meaningful. */
    if (frame != NULL && info->si_code > 0 &&
        (uintptr_t)info->si_addr - frame->start < frame->size) {
        current = NULL;
        /* The mask of before, at the price of a fault and not of every access. The thread sanitizer
         * runs handlers with all signals blocked; qemu-riscv64 7.2 takes sa_mask from beside where
         * the C library wrote it, so that what is blocked depends on what lay on the stack. */
        (void)pthread_sigmask(SIG_SETMASK, &((const ucontext_t *)context)->uc_sigmask, NULL);
        siglongjmp(frame->resume, 1);
    }
    pass_on(signal_number, info, context);
}

int nx_guard_acquire(void)
{
    int code = NX_OK;

    (void)pthread_mutex_lock(&install_lock);
    if (install_count == 0) {
        struct sigaction ours = {.sa_sigaction = on_sigbus,
                                 .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
        (void)sigemptyset(&ours.sa_mask);
        /* Read first: the handler may run as soon as it is installed. */
        if (sigaction(SIGBUS, NULL, &previous) != 0 || sigaction(SIGBUS, &ours, NULL) != 0) {
            code = NX_ESYS;
        }
    }
    if (code == NX_OK) {
        install_count++;
    }
    (void)pthread_mutex_unlock(&install_lock);
    return code;
}

void nx_guard_release(void)
{
    (void)pthread_mutex_lock(&install_lock);
    NX_ASSERT(install_count > 0);
    install_count--;
    if (install_count == 0) {
        struct sigaction installed;
        if (sigaction(SIGBUS, NULL, &installed) == 0 && (installed.sa_flags & SA_SIGINFO) != 0 &&
            installed.sa_sigaction == on_sigbus) {
            (void)sigaction(SIGBUS, &previous, NULL);
        }
    }
    (void)pthread_mutex_unlock(&install_lock);
}

int nx_guard_run(nx_guard_body body, void *context, const volatile void *start, uint64_t size)
{
    nx_guard_frame frame = {.start = (uintptr_t)start, .size = (uintptr_t)size};

    NX_ASSERT(current == NULL);
    if (sigsetjmp(frame.resume, 0) != 0) {
        return NX_EFAULT;
    }
    current = &frame;
    nx_compiler_barrier();
    body(context);
    nx_compiler_barrier();
    current = NULL;
    return NX_OK;
}
