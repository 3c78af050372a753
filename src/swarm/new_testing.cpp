/* Every allocation of C++ in a test, counted and able to fail: the test says when, by
 * new_fails(). What libtorrent allocates passes here too, the program's operator new being the
 * one that the loader finds first. */
#include <atomic>
#include <cstdlib>
#include <new>

extern "C" bool new_fails(void);
extern "C" long new_live(void);

static std::atomic<long> live;

extern "C" long new_live(void)
{
    return live.load();
}

void *operator new(std::size_t size, const std::nothrow_t &) noexcept
{
    void *block = new_fails() ? nullptr : std::malloc(size ? size : 1);

    live += block != nullptr;
    return block;
}

void *operator new(std::size_t size)
{
    void *block = operator new(size, std::nothrow);

    if (!block)
        throw std::bad_alloc();
    return block;
}

void operator delete(void *block) noexcept
{
    if (block)
        live--;
    std::free(block);
}

void operator delete(void *block, std::size_t) noexcept
{
    operator delete(block);
}

void *operator new[](std::size_t size)
{
    return operator new(size);
}

void operator delete[](void *block) noexcept
{
    operator delete(block);
}

void *operator new[](std::size_t size, const std::nothrow_t &tag) noexcept
{
    return operator new(size, tag);
}

void operator delete[](void *block, std::size_t) noexcept
{
    operator delete(block);
}
