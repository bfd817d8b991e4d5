-- Sends each radiograph that Orthanc stores to the modality 'pneumoscope'. What came from there is not sent back.

local RADIOGRAPHY = { CR = true, DX = true, DR = true, RG = true }

-- Attempts while Pneumoscope is down or its spool is full, some seconds apart; what still fails stays among Orthanc's
-- jobs, to be sent again by hand.
local ATTEMPTS, SECONDS = 500, 5

local attempts = {}
local slept = 0

function OnStoredInstance(instanceId, tags, metadata, origin)
   if RADIOGRAPHY[tags['Modality']] and origin['RemoteAet'] ~= 'PNEUMOSCOPE' then
      -- SendToModality would forget an image that cannot be sent; a job of its own fails, and is tried again.
      local job = { Resources = { instanceId }, Synchronous = false }
      RestApiPost('/modalities/pneumoscope/store', DumpJson(job, true))
   end
end

function OnJobFailure(jobId)
   attempts[jobId] = (attempts[jobId] or 0) + 1
   if attempts[jobId] < ATTEMPTS then
      if os.time() - slept > 1 then -- one pause for all that failed meanwhile
         os.execute('sleep ' .. SECONDS)
         slept = os.time()
      end
      RestApiPost('/jobs/' .. jobId .. '/resubmit', '')
   end
end

function OnJobSuccess(jobId)
   attempts[jobId] = nil
end
