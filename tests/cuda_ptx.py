"""Kernels of the tests of the driver layer: `scale` multiplies numbers in place, `nothing` does nothing."""

PTX = b"""
.version 7.4
.target sm_75
.address_size 64
.visible .global .align 4 .b8 table[1024];
.extern .shared .align 16 .b8 dynamic[];
.visible .entry scale(
	.param .u64 .ptr .global .align 4 data,
	.param .u32 count,
	.param .f32 factor
)
.maxntid 512, 1, 1
{
	.reg .pred %p;
	.reg .b32 %r<5>;
	.reg .b64 %rd<3>;
	.reg .f32 %f<3>;
	mov.u32 %r0, %ctaid.x;
	mov.u32 %r1, %ntid.x;
	mov.u32 %r2, %tid.x;
	mad.lo.u32 %r3, %r0, %r1, %r2;
	ld.param.u32 %r4, [count];
	setp.ge.u32 %p, %r3, %r4;
	@%p bra done;
	ld.param.u64 %rd0, [data];
	mad.wide.u32 %rd1, %r3, 4, %rd0;
	ld.param.f32 %f0, [factor];
	ld.global.f32 %f1, [%rd1];
	mul.f32 %f1, %f1, %f0;
	st.global.f32 [%rd1], %f1;
done:
	ret;
}
.visible .entry nothing()
{
	ret;
}
"""
# For launches that overlap, a kernel has to wait for the results of the one before.
WAITING = (
    PTX.replace(b".version 7.4", b".version 7.8")
    .replace(b"sm_75", b"sm_90")
    .replace(b"mov.u32 %r0", b"griddepcontrol.wait; mov.u32 %r0")
)
