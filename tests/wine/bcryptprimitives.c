/* Wine 8 lacks this library of Windows 10, from which Rust's standard library takes random numbers. It stands beside
 * the program in tests under Wine only:
 *     zig cc -target x86_64-windows-gnu -shared -nostdlib -o bcryptprimitives.dll \
 *         bcryptprimitives.c -ladvapi32
 */
#include <stddef.h>

/* RtlGenRandom, by the name under which advapi32 exports it. */
__declspec(dllimport) unsigned char __stdcall SystemFunction036(void *buffer, unsigned long bytes);

__declspec(dllexport) int __stdcall ProcessPrng(unsigned char *buffer, size_t bytes)
{
    return SystemFunction036(buffer, (unsigned long)bytes);
}

/* In place of the C runtime's, which this needs nothing of. */
int __stdcall DllMainCRTStartup(void *library, unsigned long reason, void *reserved)
{
    (void)library, (void)reason, (void)reserved;
    return 1;
}
