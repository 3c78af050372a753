#include "base/crc.h"

#include "testing/check.h"

/* The check value of the catalogue of parametrised CRC algorithms, and zlib's crc32. */
static void test_known_values(void **unused)
{
    CHECK(dp_crc32(0, "123456789", 9) == 0xcbf43926, "check value");
    CHECK(dp_crc32(0, "", 0) == 0, "nothing");
    CHECK(dp_crc32(0, "\0\0\0\0", 4) == 0x2144df1c, "zeros");
    CHECK(dp_crc32(dp_crc32(0, "1234", 4), "56789", 5) == 0xcbf43926, "in two parts");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_known_values) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
