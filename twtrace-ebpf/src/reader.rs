//! The two ways to read kernel memory.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_socket_cookie, bpf_probe_read_kernel, generated::bpf_skc_to_tcp_sock};

use crate::config::{cfg_value, off};

/// A way to read kernel memory.
pub trait Reader: Copy {
    /// Reads a `T` at `base + offset`.
    ///
    /// # Safety
    /// `base` is a kernel address, and one that the verifier knows the type of where that is asked for.
    unsafe fn read<T: Copy + Zero>(self, base: *const c_void, offset: usize) -> T;

    /// A socket of which more can be read than its `struct sock`; null if that is not possible.
    ///
    /// # Safety
    /// As for [`Self::read`]; `sk` is a socket of TCP.
    unsafe fn tcp_sock(self, sk: *const c_void) -> *const c_void;

    /// Cookie, generated if the socket has none yet; where that is not possible, 0 unless one was generated before.
    ///
    /// # Safety
    /// As for [`Self::read`].
    unsafe fn cookie(self, sk: *const c_void) -> u64;
}

/// Through pointers whose types the verifier knows: plain loads at constant offsets, and a bad address reads as zero.
#[derive(Clone, Copy)]
pub struct Typed;

/// Through the helper that checks the address. What cannot be read is zero.
#[derive(Clone, Copy)]
pub struct Checked;

impl Reader for Typed {
    #[inline(always)]
    unsafe fn read<T: Copy + Zero>(self, base: *const c_void, offset: usize) -> T {
        // SAFETY: the caller's promise.
        unsafe { load(base, offset) }
    }
    #[inline(always)]
    unsafe fn tcp_sock(self, sk: *const c_void) -> *const c_void {
        // SAFETY: the helper takes any typed socket, and gives its own type.
        unsafe { bpf_skc_to_tcp_sock(sk.cast_mut()).cast::<c_void>() }
    }
    #[inline(always)]
    unsafe fn cookie(self, sk: *const c_void) -> u64 {
        if cfg_value!(has_cookie) == 0 {
            // SAFETY: offset of struct sock.
            return unsafe { load(sk, off!(skc_cookie)) };
        }
        // SAFETY: the helper takes the tracepoint's socket.
        unsafe { bpf_get_socket_cookie(sk.cast_mut()) }
    }
}

impl Reader for Checked {
    #[inline(always)]
    unsafe fn read<T: Copy + Zero>(self, base: *const c_void, offset: usize) -> T {
        read(base as u64 + offset as u64).unwrap_or(T::ZERO)
    }
    #[inline(always)]
    unsafe fn tcp_sock(self, sk: *const c_void) -> *const c_void {
        sk
    }
    #[inline(always)]
    unsafe fn cookie(self, sk: *const c_void) -> u64 {
        read(sk as u64 + off!(skc_cookie) as u64).unwrap_or(0)
    }
}

/// What stands for a value that could not be read.
pub trait Zero {
    /// All bits clear.
    const ZERO: Self;
}

macro_rules! zero {
    ($($number:ty),*) => {
        $(
            impl Zero for $number {
                const ZERO: Self = 0;
            }
        )*
    };
}

zero!(u8, u16, i32, u32, u64);

impl Zero for *const c_void {
    const ZERO: Self = core::ptr::null();
}

/// Loads a field.
///
/// # Safety
/// `base` is a pointer with a BTF type (or to a map value) that has a `T` at `offset`.
#[inline(always)]
pub unsafe fn load<T: Copy>(base: *const c_void, offset: usize) -> T {
    // SAFETY: the caller's promise; the verifier checks the access against the kernel's own types.
    unsafe { core::ptr::read_volatile(base.cast::<u8>().add(offset).cast::<T>()) }
}

/// Reads kernel memory that the verifier knows no type of.
#[inline(always)]
pub fn read<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}
