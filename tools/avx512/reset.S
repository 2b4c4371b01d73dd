# The emulated PC's entire firmware: from the reset vector to Linux' 32-bit entry point, with everything already in memory.
#
# Bochs loads kernel, parameters and initramfs at the addresses that image.py prints, so no BIOS, boot loader or disk is
# needed; emulating those would take longer than the tests. The ROM is the last 64 KiB below 4 GiB; the processor starts
# 16 bytes before its end, in 16-bit mode. Linux' boot protocol requires flat segments 0x10 and 0x18, interrupts off, the
# address of the parameters in esi and zero in ebx, ebp, edi.

        .set ROM, 0xffff0000
        .text
        .code16
start:  cli
        inb     $0x92, %al              # enable address line 20
        orb     $2, %al
        outb    %al, $0x92
        lgdtl   %cs:gdt_pointer - start
        movl    %cr0, %eax
        orl     $1, %eax                # protected mode
        movl    %eax, %cr0
        ljmpl   $0x10, $(ROM + flat - start)

        .code32
flat:   movl    $0x18, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %fs
        movl    %eax, %gs
        movl    %eax, %ss
# Bochs maps the guest's memory in blocks, in the order of their first use. Loading the image filled as many blocks as it is
# long, but used only the first: touch all in order, so that each gets its part of the image.
        movl    $IMAGE, %esi
next:   movb    (%esi), %al
        addl    $0x20000, %esi
        cmpl    $MEMORY, %esi
        jb      next
        movl    $PARAMETERS, %esi
        xorl    %ebx, %ebx
        xorl    %ebp, %ebp
        xorl    %edi, %edi
        movl    $KERNEL, %eax
        jmp     *%eax

        .balign 8
gdt:    .quad   0, 0
        .quad   0x00cf9b000000ffff      # 0x10: code, 4 GiB from 0
        .quad   0x00cf93000000ffff      # 0x18: data, the same
gdt_pointer:
        .word   gdt_pointer - gdt - 1
        .long   ROM + gdt - start

        .org    0xfff0
        .code16
        jmp     start
        .org    0x10000
