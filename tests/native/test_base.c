// SPDX-License-Identifier: Apache-2.0
/* nx_base.h: arithmetic helpers, and that a failed NX_ASSERT ends the process. */
#include "nx_base.h"
#include "nx_test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_assert_aborts(void)
{
    pid_t child = fork();

    if (child == 0) {
        close(STDERR_FILENO);
        NX_ASSERT(1 + 1 == 3);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
    uint8_t bytes[9] = {0};

    test_assert_aborts();
    CHECK(nx_is_power_of_two(1) && nx_is_power_of_two(1ull << 63));
    CHECK(!nx_is_power_of_two(0) && !nx_is_power_of_two(12));
    CHECK_EQ(nx_align_up(1, 64), 64);
    CHECK_EQ(nx_align_up(64, 64), 64);
    nx_store_u64(bytes + 1, 0x0102030405060708u);
    CHECK_EQ(bytes[1], 8);
    CHECK_EQ(nx_load_u64(bytes + 1), 0x0102030405060708ll);
    CHECK_EQ(nx_load_u32(bytes + 1), 0x05060708);
    CHECK_EQ(nx_rotl64(1, 64), 1);
    CHECK_EQ(nx_rotr32(1, 1), 0x80000000ll);
    TEST_MAIN_END();
}
