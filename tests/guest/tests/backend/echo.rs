//! A back-end as small as can be: the `vhost` crate's message handler, and a naive device that
//! sends every frame back on the queue pair it came from.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use guest::device::{DeviceRing, NaiveDevice};
use guest::memory::{GuestMemory, RegionSpec};
use guest::options::feature;
use guest::ring::RingAddresses;
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::*;
use vhost::vhost_user::{
    Backend, BackendReqHandler, Error, GpuBackend, Result, VhostUserBackendReqHandlerMut,
};

/// What it offers.
pub(crate) const OFFERED: u64 = feature::VERSION_1
    | feature::MRG_RXBUF
    | feature::INDIRECT_DESC
    | feature::EVENT_IDX
    | feature::IN_ORDER
    | feature::MQ
    | feature::PROTOCOL_FEATURES;
const N_VRINGS: usize = 8;

#[derive(Default)]
struct Ring {
    num: u16,
    uva: Option<[u64; 3]>,
    base: u16,
    enabled: bool,
    call: Option<File>,
}

/// Filled by messages, run by a thread of its own.
#[derive(Default)]
pub(crate) struct Echo {
    features: u64,
    regions: Vec<(RegionSpec, File)>,
    rings: [Ring; N_VRINGS],
    device: Option<NaiveDevice>,
    waiting: [VecDeque<Vec<u8>>; N_VRINGS / 2],
    /// Frames sent back.
    pub(crate) n_echoed: u64,
}

/// A running back-end; ends when dropped.
pub(crate) struct Served {
    pub(crate) echo: Arc<Mutex<Echo>>,
    stream: UnixStream,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Serves one connection.
pub(crate) fn serve(stream: UnixStream) -> Served {
    let (echo, stop) = (
        Arc::new(Mutex::new(Echo::default())),
        Arc::new(AtomicBool::new(false)),
    );
    let kept = stream.try_clone().unwrap();
    let mut handler = BackendReqHandler::from_stream(stream, echo.clone());
    let closing = kept.try_clone().unwrap();
    let messages = std::thread::spawn(move || {
        while handler.handle_request().is_ok() {}
        let _ = closing.shutdown(std::net::Shutdown::Both);
    });
    let (ended, turning) = (stop.clone(), echo.clone());
    let device = std::thread::spawn(move || {
        let idle = Condvar::new();
        while !ended.load(Ordering::Relaxed) {
            let mut echo = turning.lock().unwrap();
            echo.turn();
            if echo.device.is_none() {
                // The lock is the message thread's meanwhile.
                drop(idle.wait_timeout(echo, Duration::from_millis(1)).unwrap());
            } else {
                drop(echo);
                std::thread::yield_now();
            }
        }
    });
    Served {
        echo,
        stream: kept,
        stop,
        threads: vec![messages, device],
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        self.threads
            .drain(..)
            .for_each(|thread| thread.join().unwrap());
    }
}

impl Echo {
    fn turn(&mut self) {
        if self.device.is_none() {
            self.device = self.make_device();
        }
        let Some(device) = &mut self.device else {
            return;
        };
        for pair in 0..device.rings.len() / 2 {
            let (rx, tx) = (2 * pair, 2 * pair + 1);
            if !(self.rings[rx].enabled && self.rings[tx].enabled) {
                continue;
            }
            while let Some(frame) = device.receive(pair) {
                self.waiting[pair].push_back(frame);
            }
            while self.waiting[pair]
                .front()
                .is_some_and(|frame| device.deliver(pair, frame))
            {
                self.waiting[pair].pop_front();
                self.n_echoed += 1;
            }
            for vring in [rx, tx] {
                device.ask_kicks(vring, false);
                if let (true, Some(call)) = (device.call_due(vring), &mut self.rings[vring].call) {
                    call.write_all(&1u64.to_ne_bytes()).unwrap();
                }
            }
        }
    }

    /// Once all rings that were named are complete.
    fn make_device(&self) -> Option<NaiveDevice> {
        let named: Vec<&Ring> = self.rings.iter().take_while(|r| r.num > 0).collect();
        let ready = named.len() >= 2 && named.iter().all(|r| r.enabled && r.uva.is_some());
        if !ready || self.regions.is_empty() {
            return None;
        }
        let files: Vec<_> = self
            .regions
            .iter()
            .map(|(spec, file)| (*spec, file.try_clone().unwrap()))
            .collect();
        let memory = GuestMemory::from_files(&files).unwrap();
        let ring = |r: &&Ring| {
            let [desc, avail, used] = r.uva.unwrap().map(|uva| memory.gpa_of_uva(uva).unwrap());
            let at = RingAddresses { desc, avail, used };
            DeviceRing {
                size: r.num,
                at,
                next_avail: r.base,
                next_used: r.base,
                signalled: r.base,
            }
        };
        let rings = named.iter().map(ring).collect();
        Some(NaiveDevice::from_parts(
            Arc::new(memory),
            self.features,
            rings,
        ))
    }

    fn ring(&mut self, vring: u32) -> Result<&mut Ring> {
        self.rings
            .get_mut(vring as usize)
            .ok_or(Error::InvalidParam)
    }
}

fn spec(gpa: u64, len: u64, uva: u64, file_offset: u64) -> RegionSpec {
    RegionSpec {
        gpa,
        uva,
        len,
        file_offset,
    }
}

fn no<T>() -> Result<T> {
    Err(Error::InvalidOperation("not here"))
}

impl VhostUserBackendReqHandlerMut for Echo {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }
    fn reset_owner(&mut self) -> Result<()> {
        Ok(())
    }
    fn reset_device(&mut self) -> Result<()> {
        no()
    }
    fn get_features(&mut self) -> Result<u64> {
        Ok(OFFERED)
    }
    fn set_features(&mut self, features: u64) -> Result<()> {
        self.features = features;
        if features & !OFFERED == 0 {
            Ok(())
        } else {
            Err(Error::InvalidParam)
        }
    }
    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        let specs = regions
            .iter()
            .map(|r| spec(r.guest_phys_addr, r.memory_size, r.user_addr, r.mmap_offset));
        self.regions = specs.zip(files).collect();
        self.device = None;
        Ok(None)
    }
    fn set_vring_num(&mut self, vring: u32, num: u32) -> Result<()> {
        self.ring(vring)?.num = u16::try_from(num).map_err(|_| Error::InvalidParam)?;
        Ok(())
    }
    fn set_vring_addr(
        &mut self,
        vring: u32,
        _: VhostUserVringAddrFlags,
        d: u64,
        u: u64,
        a: u64,
        _: u64,
    ) -> Result<()> {
        self.ring(vring)?.uva = Some([d, a, u]);
        Ok(())
    }
    fn set_vring_base(&mut self, vring: u32, base: u32) -> Result<()> {
        self.ring(vring)?.base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        Ok(())
    }
    fn get_vring_base(&mut self, vring: u32) -> Result<VhostUserVringState> {
        let base = self
            .device
            .as_ref()
            .and_then(|d| d.rings.get(vring as usize))
            .map(|r| r.next_avail);
        let base = base.unwrap_or(self.ring(vring)?.base);
        let ring = self.ring(vring)?;
        (ring.enabled, ring.base) = (false, base);
        Ok(VhostUserVringState::new(vring, u32::from(base)))
    }
    fn set_vring_kick(&mut self, _: u8, _: Option<File>) -> Result<()> {
        Ok(())
    }
    fn set_vring_call(&mut self, vring: u8, file: Option<File>) -> Result<()> {
        self.ring(u32::from(vring))?.call = file;
        Ok(())
    }
    fn set_vring_err(&mut self, _: u8, _: Option<File>) -> Result<()> {
        Ok(())
    }
    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS)
    }
    fn set_protocol_features(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
    fn get_queue_num(&mut self) -> Result<u64> {
        Ok((N_VRINGS / 2) as u64)
    }
    fn set_vring_enable(&mut self, vring: u32, enable: bool) -> Result<()> {
        self.ring(vring)?.enabled = enable;
        Ok(())
    }
    fn get_config(&mut self, _: u32, _: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        no()
    }
    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        no()
    }
    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        no()
    }
    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        no()
    }
    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        no()
    }
    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        no()
    }
    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(509)
    }
    fn add_mem_region(
        &mut self,
        r: &VhostUserSingleMemoryRegion,
        file: File,
        _: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        self.regions.push((
            spec(r.guest_phys_addr, r.memory_size, r.user_addr, r.mmap_offset),
            file,
        ));
        self.device = None;
        Ok(None)
    }
    fn remove_mem_region(&mut self, _: &VhostUserSingleMemoryRegion) -> Result<()> {
        no()
    }
    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        no()
    }
    fn check_device_state(&mut self) -> Result<()> {
        no()
    }
    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        no()
    }
    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        no()
    }
    fn set_backend_req_fd(&mut self, _: Backend) {}
}
