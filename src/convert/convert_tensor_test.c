/* Values of F8 E4M3 and blocks of MXFP4 against what their bits say by hand. */
#include "convert/convert_tensor.h"

#include <math.h>
#include "testing/check.h"

/* Positive codes: eight fractions of each exponent. Code 0x7f is NaN. */
static const float positive[16][8] = {
    { 0, 0x1p-9f, 0x1p-8f, 0x3p-9f, 0x1p-7f, 0x5p-9f, 0x3p-8f, 0x7p-9f },
    { 0x8p-9f, 0x9p-9f, 0xap-9f, 0xbp-9f, 0xcp-9f, 0xdp-9f, 0xep-9f, 0xfp-9f },
    { 0x8p-8f, 0x9p-8f, 0xap-8f, 0xbp-8f, 0xcp-8f, 0xdp-8f, 0xep-8f, 0xfp-8f },
    { 0x8p-7f, 0x9p-7f, 0xap-7f, 0xbp-7f, 0xcp-7f, 0xdp-7f, 0xep-7f, 0xfp-7f },
    { 0.125f, 0.140625f, 0.15625f, 0.171875f, 0.1875f, 0.203125f, 0.21875f, 0.234375f },
    { 0.25f, 0.28125f, 0.3125f, 0.34375f, 0.375f, 0.40625f, 0.4375f, 0.46875f },
    { 0.5f, 0.5625f, 0.625f, 0.6875f, 0.75f, 0.8125f, 0.875f, 0.9375f },
    { 1, 1.125f, 1.25f, 1.375f, 1.5f, 1.625f, 1.75f, 1.875f },
    { 2, 2.25f, 2.5f, 2.75f, 3, 3.25f, 3.5f, 3.75f },
    { 4, 4.5f, 5, 5.5f, 6, 6.5f, 7, 7.5f },
    { 8, 9, 10, 11, 12, 13, 14, 15 },
    { 16, 18, 20, 22, 24, 26, 28, 30 },
    { 32, 36, 40, 44, 48, 52, 56, 60 },
    { 64, 72, 80, 88, 96, 104, 112, 120 },
    { 128, 144, 160, 176, 192, 208, 224, 240 },
    { 256, 288, 320, 352, 384, 416, 448, 0 },
};

static void test_e4m3(void **state)
{
    for (int code = 0; code < 256; code++) {
        float x = dp_f32_from_e4m3((uint8_t)code), want = positive[code >> 3 & 15][code & 7];

        if ((code & 0x7f) == 0x7f) {
            CHECK(isnan(x), "code %d: %g", code, (double)x);
            continue;
        }
        CHECK(x == (code & 0x80 ? -want : want), "code %d: %g", code, (double)x);
        CHECK(!signbit(x) == !(code & 0x80), "code %d: its sign", code);
    }
}

/* Value i of the published block is i mod 16 in the nibbles below; GGUF wants values 0 to
 * 15 in low halves, 16 to 31 in high ones. */
static void test_mxfp4(void **state)
{
    static const uint8_t in[16] = { 0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe,
                                    0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01 };
    static const uint8_t want[17] = { 0x7b, 0xf0, 0xe1, 0xd2, 0xc3, 0xb4, 0xa5, 0x96, 0x87,
                                      0x78, 0x69, 0x5a, 0x4b, 0x3c, 0x2d, 0x1e, 0x0f };
    uint8_t out[17];

    dp_mxfp4_repack(out, in, 0x7b);
    CHECK(memcmp(out, want, sizeof out) == 0, "%02x %02x %02x", out[1], out[2], out[16]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_e4m3),
        cmocka_unit_test(test_mxfp4),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
