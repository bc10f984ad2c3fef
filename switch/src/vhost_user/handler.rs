//! Maps the messages that the `vhost` crate hands over to calls of [`Device`], one function per
//! message.
//!
//! A refusal is kept for the connection, which knows whether it can be reported to the front-end.
//! Files of a refused message are closed by being dropped. Messages of features that are not
//! offered are refused.

use std::fs::File;

use pmd::shm::RegionSpec;
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};

use super::cores::DataPlane;
use super::device::Device;
use super::queue::Rings;
use super::refusal::Refusal;

/// A device behind the `vhost` crate.
#[derive(Debug)]
pub(crate) struct Handler<P: DataPlane> {
    /// The device that the messages set up.
    pub(crate) device: Device<P>,
    /// Why the last message was refused, until it is taken.
    refusal: Option<Refusal>,
}

impl<P: DataPlane> Handler<P> {
    /// For a front-end that has sent nothing yet.
    pub(crate) fn new(plane: P, n_pairs: u16) -> Self {
        Self {
            device: Device::new(plane, n_pairs, protocol_features().bits()),
            refusal: None,
        }
    }

    /// Why the last message was refused by the device. None: it wasn't, or the `vhost` crate found
    /// it malformed.
    pub(crate) fn take_refusal(&mut self) -> Option<Refusal> {
        self.refusal.take()
    }

    /// Whether the front-end reads acknowledgements.
    pub(crate) fn acknowledges(&self) -> bool {
        self.device.protocol() & VhostUserProtocolFeatures::REPLY_ACK.bits() != 0
    }

    fn answer<T>(&mut self, result: std::result::Result<T, Refusal>) -> Result<T> {
        result.map_err(|refusal| {
            self.refusal = Some(refusal);
            Error::InvalidParam
        })
    }

    fn not_offered<T>(&mut self) -> Result<T> {
        let refusal = Refusal {
            text: "it was not offered".to_owned(),
            is_memory: false,
        };
        self.answer(Err(refusal))
    }
}

/// Protocol features that are offered.
fn protocol_features() -> VhostUserProtocolFeatures {
    VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
}

impl<P: DataPlane> VhostUserBackendReqHandlerMut for Handler<P> {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.device.disable_all();
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.device.reset();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.device.offered())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        let result = self.device.set_features(features);
        self.answer(result)
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        let spec = |(region, file): (&VhostUserMemoryRegion, File)| RegionSpec {
            guest_addr: region.guest_phys_addr,
            user_addr: region.user_addr,
            len: region.memory_size,
            file_offset: region.mmap_offset,
            file,
        };
        let result = self
            .device
            .set_memory(regions.iter().zip(files).map(spec).collect());
        self.answer(result).map(|()| None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let result = self.device.set_size(index, num);
        self.answer(result)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        if !flags.is_empty() {
            return self.not_offered();
        }
        let result = self.device.set_rings(
            index,
            Rings {
                desc: descriptor,
                avail: available,
                used,
            },
        );
        self.answer(result)
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let result = self.device.set_base(index, base);
        self.answer(result)
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let result = self.device.stop_queue(index);
        let base = self.answer(result)?;
        Ok(VhostUserVringState::new(index, u32::from(base)))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let result = self.device.set_kick(u32::from(index), file);
        self.answer(result)
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let result = self.device.set_call(u32::from(index), file);
        self.answer(result)
    }

    fn set_vring_err(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let result = self.device.set_err(u32::from(index), file);
        self.answer(result)
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(protocol_features())
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        let result = self.device.set_protocol_features(features);
        self.answer(result)
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.device.n_pairs())
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        let result = self.device.set_enabled(index, enable);
        self.answer(result)
    }

    fn get_config(
        &mut self,
        _offset: u32,
        _size: u32,
        _flags: VhostUserConfigFlags,
    ) -> Result<Vec<u8>> {
        self.not_offered()
    }

    fn set_config(
        &mut self,
        _offset: u32,
        _config: &[u8],
        _flags: VhostUserConfigFlags,
    ) -> Result<()> {
        self.not_offered()
    }

    fn set_gpu_socket(&mut self, _backend: GpuBackend) -> Result<()> {
        self.not_offered()
    }

    fn get_shared_object(&mut self, _object: VhostUserSharedMsg) -> Result<File> {
        self.not_offered()
    }

    fn get_inflight_fd(
        &mut self,
        _inflight: &VhostUserInflight,
    ) -> Result<(VhostUserInflight, File)> {
        self.not_offered()
    }

    fn set_inflight_fd(&mut self, _inflight: &VhostUserInflight, _file: File) -> Result<()> {
        self.not_offered()
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(self.device.memory_slots() as u64)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        let spec = RegionSpec {
            guest_addr: region.guest_phys_addr,
            user_addr: region.user_addr,
            len: region.memory_size,
            file_offset: region.mmap_offset,
            file,
        };
        let result = self.device.add_region(spec);
        self.answer(result).map(|()| None)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        let result =
            self.device
                .remove_region(region.guest_phys_addr, region.user_addr, region.memory_size);
        self.answer(result)
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _file: File,
    ) -> Result<Option<File>> {
        self.not_offered()
    }

    fn check_device_state(&mut self) -> Result<()> {
        self.not_offered()
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        self.not_offered()
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        self.not_offered()
    }
}
