//! Large tables in large pages. A look-up among millions of keys touches memory at random; with pages
//! of 4 KiB nearly every touch also misses the processor's table of pages, which costs more than the
//! touch itself (more so in a virtual machine, where two tables are walked).
#![allow(unsafe_code)] // Advice to the kernel and to the processor; see below.

/// The size of a large page on x86-64 and on most of AArch64.
const LARGE_PAGE_BYTES: usize = 2 << 20;

/// `len` default values in one block, in large pages where the kernel grants them.
pub(super) fn block<T: Default>(len: usize) -> Box<[T]> {
    filled(len, T::default)
}

/// `len` values in one block, in large pages where the kernel grants them.
pub(super) fn filled<T>(len: usize, make: impl Fn() -> T) -> Box<[T]> {
    let mut block: Vec<T> = Vec::with_capacity(len);
    advise(&mut block);
    block.extend((0..len).map(|_| make()));
    block.into_boxed_slice()
}

/// Asks for large pages in the whole ones of a vector's spare room, before it is first touched.
fn advise<T>(block: &mut Vec<T>) {
    let spare = block.spare_capacity_mut();
    let bytes = size_of_val(spare);
    let begin = spare.as_mut_ptr().cast::<u8>();
    let skip = begin.align_offset(LARGE_PAGE_BYTES);
    let whole = bytes.saturating_sub(skip) / LARGE_PAGE_BYTES * LARGE_PAGE_BYTES;
    if whole == 0 || cfg!(miri) {
        return;
    }
    let advice = rustix::mm::Advice::LinuxHugepage;
    // SAFETY: the range lies within the vector's own allocation (`skip + whole <= bytes`), and this
    // advice changes neither its content nor who may touch it. A kernel without large pages refuses,
    // and nothing depends on it.
    let _ = unsafe { rustix::mm::madvise(begin.wrapping_add(skip).cast(), whole, advice) };
}

/// Begins to fetch what will be written soon, so that waits for memory pass at the same time.
#[inline]
pub(super) fn prefetch<T>(at: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: a prefetch neither reads nor writes as far as the program can tell, and its address
        // is that of a reference.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(std::ptr::from_ref(at).cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}

#[cfg(all(test, not(model_check)))]
mod tests {
    #[test]
    fn a_block_has_its_values_whatever_its_size() {
        for len in [0, 1, 1000, 1 << 20] {
            assert!(super::filled(len, || 7_u64).iter().all(|v| *v == 7));
        }
    }
}
