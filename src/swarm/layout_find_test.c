#include "swarm/layout.h"

#include "testing/check.h"

static void pieces_are_numbered_over_all_files(void **unused)
{
    static const dp_layout_file files[] = {
        { "a", { 70000, 65536 }, 0, NULL }, /* 2 pieces */
        { "b", { 1, 65536 }, 2, NULL },     /* 1 */
        { "c", { 131072, 65536 }, 3, NULL } /* 2 */
    };
    static const dp_layout layout = { files, 3, 65536, 5 };
    static const dp_layout_place want[] = { { 0, 0, 65536, 0 },
                                            { 0, 1, 4464, 65536 },
                                            { 1, 0, 1, 0 },
                                            { 2, 0, 65536, 0 },
                                            { 2, 1, 65536, 65536 } };

    for (uint32_t i = 0; i < layout.piece_count; i++) {
        dp_layout_place place = dp_layout_find(&layout, i);

        CHECK(place.file == want[i].file && place.piece == want[i].piece &&
                  place.size == want[i].size && place.offset == want[i].offset,
              "piece %u: file %u, piece %u, %u bytes at %llu", i, place.file, place.piece,
              place.size, (unsigned long long)place.offset);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_numbered_over_all_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
